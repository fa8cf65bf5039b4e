/* test_chachapoly.c - chachapoly.c against published vectors and libssh2's C.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan; it prints "ok"
 * and exits 0, or says what differs.  An argument, such as 2000, adds a
 * measurement over that many MB.  The reference is libssh2's own cipher,
 * compiled under other names:
 *
 * build: crypto/chachapoly.c libssh2:chacha.c libssh2:poly1305.c libssh2:misc.c
 * build: libssh2:cipher-chachapoly.c
 *     -Dchachapoly_ctx=ref_chachapoly_ctx -Dchachapoly_init=ref_init
 *     -Dchachapoly_crypt=ref_crypt -Dchachapoly_get_length=ref_get_length
 */
#include "testing_cipher.h"
#include "chachapoly.h"

#define chachapoly_ctx ref_chachapoly_ctx
#define chachapoly_init ref_init
#define chachapoly_crypt ref_crypt
#define chachapoly_get_length ref_get_length
#include "cipher-chachapoly.h"
#undef chachapoly_ctx
#undef chachapoly_init
#undef chachapoly_crypt
#undef chachapoly_get_length

#include <time.h>

#define AAD 4
#define TAG CHACHAPOLY_TAGLEN

/* RFC 8439 appendix A.1, test vectors 1, 2 and 5: key stream blocks.  Its
 * 12-byte nonce is our 8-byte one after 4 zero bytes. */
static const struct {
    u_int seqnr, block;
    u_char stream[64];
} vector[] = {
    { 0, 0,
      { 0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a,
        0xe5, 0x53, 0x86, 0xbd, 0x28, 0xbd, 0xd2, 0x19, 0xb8, 0xa0, 0x8d,
        0xed, 0x1a, 0xa8, 0x36, 0xef, 0xcc, 0x8b, 0x77, 0x0d, 0xc7, 0xda,
        0x41, 0x59, 0x7c, 0x51, 0x57, 0x48, 0x8d, 0x77, 0x24, 0xe0, 0x3f,
        0xb8, 0xd8, 0x4a, 0x37, 0x6a, 0x43, 0xb8, 0xf4, 0x15, 0x18, 0xa1,
        0x1c, 0xc3, 0x87, 0xb6, 0x69, 0xb2, 0xee, 0x65, 0x86 } },
    { 0, 1,
      { 0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a, 0x98, 0xba, 0x97,
        0x7c, 0x73, 0x2d, 0x08, 0x0d, 0xcb, 0x0f, 0x29, 0xa0, 0x48, 0xe3,
        0x65, 0x69, 0x12, 0xc6, 0x53, 0x3e, 0x32, 0xee, 0x7a, 0xed, 0x29,
        0xb7, 0x21, 0x76, 0x9c, 0xe6, 0x4e, 0x43, 0xd5, 0x71, 0x33, 0xb0,
        0x74, 0xd8, 0x39, 0xd5, 0x31, 0xed, 0x1f, 0x28, 0x51, 0x0a, 0xfb,
        0x45, 0xac, 0xe1, 0x0a, 0x1f, 0x4b, 0x79, 0x4d, 0x6f } },
    { 2, 0,
      { 0xc2, 0xc6, 0x4d, 0x37, 0x8c, 0xd5, 0x36, 0x37, 0x4a, 0xe2, 0x04,
        0xb9, 0xef, 0x93, 0x3f, 0xcd, 0x1a, 0x8b, 0x22, 0x88, 0xb3, 0xdf,
        0xa4, 0x96, 0x72, 0xab, 0x76, 0x5b, 0x54, 0xee, 0x27, 0xc7, 0x8a,
        0x97, 0x0e, 0x0e, 0x95, 0x5c, 0x14, 0xf3, 0xa8, 0x8e, 0x74, 0x1b,
        0x97, 0xc2, 0x86, 0xf7, 0x5f, 0x8f, 0xc2, 0x99, 0xe8, 0x14, 0x83,
        0x62, 0xfa, 0x19, 0x8a, 0x39, 0x53, 0x1b, 0xed, 0x6d } },
};

static void
test_vectors(void)
{
    static const u_char key[CHACHAPOLY_KEYLEN]; /* all of them: zero */
    static const u_char zeros[64];
    struct chachapoly_ctx ctx;
    u_char out[64 + 64 + TAG];
    unsigned i;
    u_int length;

    check(!chachapoly_init(&ctx, key, sizeof(key)), "init", 0);
    for(i = 0; i < sizeof(vector) / sizeof(vector[0]); i++) {
        /* Block 0 of a key encrypts the header, block 1 on the payload. */
        u_char in[128] = { 0 };

        check(!chachapoly_crypt(&ctx, vector[i].seqnr, out, in, 64, 64, 1),
              "encrypt", i);
        check(!memcmp(out + 64 * vector[i].block, vector[i].stream, 64),
              "RFC 8439 A.1 differs", i);
    }
    check(!chachapoly_get_length(&ctx, &length, 0, zeros, 4) &&
          length == 0x76b8e0ad, "length differs", length);
    check(!chachapoly_get_length(&ctx, &length, 2, zeros, 64) &&
          length == 0xc2c64d37, "length differs", length);
    chachapoly_free(&ctx);
}

/* One packet both ways in both implementations, in place or not. */
static void
round_trip(struct chachapoly_ctx *ctx, struct ref_chachapoly_ctx *ref,
           u_int seqnr, u_int len, int in_place)
{
    size_t whole = (size_t)AAD + len + TAG;
    u_char *plain = exact(whole), *ours = exact(whole), *theirs = exact(whole);
    u_char *back = exact(whole);
    u_int ours_len = 0, theirs_len = 1, bit;

    fill(plain, whole);
    memcpy(ours, plain, whole);
    check(!chachapoly_crypt(ctx, seqnr, ours, in_place ? ours : plain, len,
                            AAD, 1), "encrypt", len);
    check(!ref_crypt(ref, seqnr, theirs, plain, len, AAD, 1), "ref", len);
    check(!memcmp(ours, theirs, whole), "ciphertexts differ", len);

    check(!chachapoly_get_length(ctx, &ours_len, seqnr, theirs, 4) &&
          !ref_get_length(ref, &theirs_len, seqnr, theirs, 4) &&
          ours_len == theirs_len, "lengths differ", len);

    /* Any flipped bit must be refused, and nothing be written. */
    fill((u_char *)&bit, sizeof(bit));
    bit %= (u_int)whole * 8;
    theirs[bit / 8] ^= (u_char)(1 << bit % 8);
    memset(back, 0xa5, whole);
    check(chachapoly_crypt(ctx, seqnr, back, theirs, len, AAD, 0) < 0,
          "tampered packet taken", bit);
    for(bit = 0; bit < whole; bit++)
        check(back[bit] == 0xa5, "tampered packet written", bit);

    check(chachapoly_crypt(ctx, seqnr + 1, back, ours, len, AAD, 0) < 0,
          "wrong sequence number taken", seqnr);
    if(in_place)
        memcpy(back, ours, whole);
    check(!chachapoly_crypt(ctx, seqnr, back, in_place ? back : ours, len,
                            AAD, 0), "decrypt", len);
    check(!memcmp(back, plain, AAD + (size_t)len), "plaintexts differ", len);

    free(plain);
    free(ours);
    free(theirs);
    free(back);
}

static void
test_reference(void)
{
    static const u_int seqnrs[] = { 0, 1, 255, 256, 0x7fffffff, 0x80000000,
                                    0xfffffffe, 0xffffffff };
    static const u_int lens[] = { 1024, 4095, 4096, 32768, 34980, 100003 };
    u_char key[CHACHAPOLY_KEYLEN];
    unsigned i, j;

    for(i = 0; i < sizeof(seqnrs) / sizeof(seqnrs[0]); i++) {
        struct chachapoly_ctx ctx;
        struct ref_chachapoly_ctx ref;

        fill(key, sizeof(key));
        check(!chachapoly_init(&ctx, key, sizeof(key)), "init", i);
        check(!ref_init(&ref, key, sizeof(key)), "ref init", i);
        for(j = 0; j <= 300; j++)
            round_trip(&ctx, &ref, seqnrs[i], j, (int)(j & 1));
        for(j = 0; j < sizeof(lens) / sizeof(lens[0]); j++) {
            round_trip(&ctx, &ref, seqnrs[i], lens[j], 0);
            round_trip(&ctx, &ref, seqnrs[i], lens[j], 1);
        }
        chachapoly_free(&ctx);
    }
}

static void
test_refusals(void)
{
    struct chachapoly_ctx ctx;
    u_char key[CHACHAPOLY_KEYLEN], data[AAD + TAG] = { 0 };
    u_int i, length = 77;

    fill(key, sizeof(key));
    check(chachapoly_init(&ctx, key, sizeof(key) - 1) < 0, "short key", 0);
    chachapoly_free(&ctx); /* nothing to free, and allowed */
    check(!chachapoly_init(&ctx, key, sizeof(key)), "init", 0);
    for(i = 0; i < 4; i++) {
        u_char *few = exact(i);

        check(chachapoly_get_length(&ctx, &length, 0, few, i) < 0 &&
              length == 77, "length from too few bytes", i);
        free(few);
    }
    check(chachapoly_crypt(&ctx, 0, data, data, 0x80000000u, AAD, 0) < 0,
          "length beyond int taken", 0);
    check(chachapoly_crypt(&ctx, 0, data, data, 0, 65, 1) < 0,
          "header beyond a block taken", 0);
    chachapoly_free(&ctx);
}

static double
cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
measure(u_int megabytes)
{
    static u_char packet[AAD + 32784 + TAG];
    const u_int len = 32784;
    struct chachapoly_ctx ctx;
    struct ref_chachapoly_ctx ref;
    u_char key[CHACHAPOLY_KEYLEN];
    u_int i, length, count = (u_int)(megabytes * 1e6 / len);
    double start, ours, theirs;

    fill(key, sizeof(key));
    check(!chachapoly_init(&ctx, key, sizeof(key)), "init", 0);
    check(!ref_init(&ref, key, sizeof(key)), "ref init", 0);
    start = cpu_seconds();
    for(i = 0; i < count; i++) {
        check(!chachapoly_crypt(&ctx, i, packet, packet, len, AAD, 1),
              "encrypt", i);
        check(!chachapoly_get_length(&ctx, &length, i, packet, AAD),
              "length", i);
        check(!chachapoly_crypt(&ctx, i, packet, packet, len, AAD, 0),
              "decrypt", i);
    }
    ours = cpu_seconds() - start;
    chachapoly_free(&ctx);
    start = cpu_seconds();
    for(i = 0; i < count; i++) {
        check(!ref_crypt(&ref, i, packet, packet, len, AAD, 1), "ref", i);
        check(!ref_get_length(&ref, &length, i, packet, AAD), "ref", i);
        check(!ref_crypt(&ref, i, packet, packet, len, AAD, 0), "ref", i);
    }
    theirs = cpu_seconds() - start;
    printf("CPU s per GB and direction, 32 KB packets: %.2f, libssh2's C"
           " %.2f\n", ours / 2 * 1000 / megabytes,
           theirs / 2 * 1000 / megabytes);
}

int
main(int argc, char **argv)
{
    test_vectors();
    test_reference();
    test_refusals();
    puts("ok");
    if(argc > 1)
        measure((u_int)strtoul(argv[1], NULL, 10));
    return 0;
}
