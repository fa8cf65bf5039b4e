/* test_aesgcm.c - aesgcm.c against OpenSSL used packet by packet in the plainest way.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan; it prints "ok"
 * and exits 0, or says what differs.  That real servers agree is shown by
 * tests/hostkeys/test_negotiation.py.
 *
 * build: crypto/aesgcm.c
 */
#include "testing_cipher.h"
#include "aesgcm.h"

#define HEAD AESGCM_LENGTHLEN
#define TAG AESGCM_TAGLEN

/* The packet with number `count` after one that was sent with `first`: the
 * IV made by arithmetic, the cipher by a context of its own. */
static void
reference(const u_char *key, size_t keylen, const u_char *first,
          uint64_t count, u_char *packet, size_t len)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    u_char iv[AESGCM_IVLEN], *out = exact(len + 1);
    uint64_t counter = 0;
    int i, done;

    for(i = 4; i < AESGCM_IVLEN; i++)
        counter = counter << 8 | first[i];
    counter += count;
    memcpy(iv, first, 4);
    for(i = AESGCM_IVLEN; i-- > 4; counter >>= 8)
        iv[i] = (u_char)counter;
    check(ctx && EVP_EncryptInit_ex(ctx, keylen == 16 ? EVP_aes_128_gcm() :
                                    EVP_aes_256_gcm(), NULL, key, iv) == 1 &&
          EVP_EncryptUpdate(ctx, NULL, &done, packet, HEAD) == 1 &&
          EVP_EncryptUpdate(ctx, out, &done, packet + HEAD, (int)len) == 1 &&
          EVP_EncryptFinal_ex(ctx, out + done, &done) == 1 &&
          EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG,
                              packet + HEAD + len) == 1, "reference", 0);
    memcpy(packet + HEAD, out, len);
    free(out);
    EVP_CIPHER_CTX_free(ctx);
}

static void
test_packets(size_t keylen, u_char low)
{
    static const size_t lens[] = { 16, 32, 48, 256, 4096, 32784, 34992 };
    struct aesgcm_ctx out, in;
    u_char key[32], iv[AESGCM_IVLEN];
    unsigned i;

    fill(key, sizeof(key));
    memset(iv, 0xff, sizeof(iv)); /* the counter carries into every byte */
    iv[AESGCM_IVLEN - 1] = low;
    check(!aesgcm_init(&out, key, keylen, iv, 1), "init", 1);
    check(!aesgcm_init(&in, key, keylen, iv, 0), "init", 0);
    for(i = 0; i < 21; i++) {
        size_t len = lens[i % 7], all = HEAD + len + TAG;
        u_char *plain = exact(all), *ours = exact(all), *theirs = exact(all);

        fill(plain, all);
        memcpy(ours, plain, all);
        memcpy(theirs, plain, all);
        check(!aesgcm_crypt(&out, ours, len), "encrypt", i);
        reference(key, keylen, iv, i, theirs, len);
        check(!memcmp(ours, theirs, all), "differs from the reference", i);
        check(!aesgcm_crypt(&in, ours, len), "decrypt", i);
        check(!memcmp(ours, plain, HEAD + len), "not what was sent", i);
        free(plain);
        free(ours);
        free(theirs);
    }
    aesgcm_free(&out);
    aesgcm_free(&in);
}

/* A changed length, text or tag, a packet twice, one left out: all refused. */
static void
test_tampering(void)
{
    struct aesgcm_ctx out, in;
    u_char key[32], iv[AESGCM_IVLEN], packet[HEAD + 32 + TAG];
    u_char good[sizeof(packet)];
    unsigned at;

    fill(key, sizeof(key));
    fill(iv, sizeof(iv));
    for(at = 0; at <= sizeof(packet); at++) {
        check(!aesgcm_init(&out, key, 32, iv, 1), "init", at);
        check(!aesgcm_init(&in, key, 32, iv, 0), "init", at);
        fill(packet, sizeof(packet));
        check(!aesgcm_crypt(&out, packet, 32), "encrypt", at);
        memcpy(good, packet, sizeof(packet));
        if(at < sizeof(packet)) {
            packet[at] ^= 1;
            check(aesgcm_crypt(&in, packet, 32) < 0, "tampered", at);
        }
        else {
            check(!aesgcm_crypt(&in, packet, 32), "decrypt", at);
            check(aesgcm_crypt(&in, good, 32) < 0, "taken twice", at);
        }
        aesgcm_free(&out);
        aesgcm_free(&in);
    }
}

static void
test_refusals(void)
{
    struct aesgcm_ctx ctx;
    u_char key[32] = { 0 }, iv[AESGCM_IVLEN] = { 0 }, packet[HEAD + TAG];

    check(aesgcm_init(&ctx, key, 24, iv, 1) < 0, "odd key taken", 24);
    aesgcm_free(&ctx); /* nothing to free, and allowed */
    check(!aesgcm_init(&ctx, key, 16, iv, 1), "init", 0);
    check(aesgcm_crypt(&ctx, packet, (size_t)1 << 31) < 0,
          "length beyond int taken", 0);
    aesgcm_free(&ctx);
    check((unsigned)hussh_fast_aes() <= 1, "fast_aes", 0);
}

int
main(void)
{
    test_packets(16, 0);
    test_packets(32, 0xf5);
    test_tampering();
    test_refusals();
    puts("ok");
    return 0;
}
