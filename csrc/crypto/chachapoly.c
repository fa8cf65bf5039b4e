/* chachapoly.c - chacha20-poly1305@openssh.com on OpenSSL 3.
 *
 * The construction (OpenSSH's PROTOCOL.chacha20poly1305) is not RFC 8439's
 * AEAD: two keys, a 64-bit nonce that is the packet's sequence number, and a
 * tag over both ciphertexts without lengths or padding.  So it is built from
 * the two primitives.  OpenSSL's ChaCha20 takes one 16-byte IV: the block
 * counter, 8 bytes little-endian here, and the nonce.
 *
 * Per packet and key there is one IV set, and no fetch and no allocation:
 * block 0 yields the Poly1305 key, and the same stream, now at block 1, goes
 * on to the payload.
 */
#include "libssh2_priv.h"
#include "chachapoly.h"

#include <limits.h>
#include <openssl/crypto.h>

#define BLOCK 64
#define MACKEY 32

static EVP_CIPHER_CTX *
stream_new(EVP_CIPHER *cipher, const u_char *key)
{
    EVP_CIPHER_CTX *stream = EVP_CIPHER_CTX_new();

    /* Without an IV: each packet sets its own. */
    if(stream && EVP_EncryptInit_ex2(stream, cipher, key, NULL, NULL) != 1) {
        EVP_CIPHER_CTX_free(stream);
        stream = NULL;
    }
    return stream;
}

/* Put a stream at block 0 for one packet. */
static int
stream_start(EVP_CIPHER_CTX *stream, u_int seqnr)
{
    u_char iv[16] = { 0 };

    _libssh2_htonu32(iv + 12, seqnr);
    return EVP_EncryptInit_ex2(stream, NULL, NULL, iv, NULL) == 1;
}

/* Encrypting and decrypting are the same. */
static int
stream_xor(EVP_CIPHER_CTX *stream, u_char *dest, const u_char *src, u_int len)
{
    int done = 0;

    return !len || (EVP_EncryptUpdate(stream, dest, &done, src,
                                      (int)len) == 1 && (u_int)done == len);
}

static int
poly_tag(EVP_MAC_CTX *mac, const u_char *key, const u_char *data, size_t len,
         u_char *tag)
{
    size_t done = 0;

    return EVP_MAC_init(mac, key, MACKEY, NULL) == 1 &&
           EVP_MAC_update(mac, data, len) == 1 &&
           EVP_MAC_final(mac, tag, &done, CHACHAPOLY_TAGLEN) == 1 &&
           done == CHACHAPOLY_TAGLEN;
}

int
chachapoly_init(struct chachapoly_ctx *ctx, const u_char *key, u_int keylen)
{
    EVP_CIPHER *cipher;
    EVP_MAC *mac;

    ctx->payload = ctx->header = NULL;
    ctx->mac = NULL;
    if(keylen != CHACHAPOLY_KEYLEN)
        return LIBSSH2_ERROR_INVAL;

    /* Contexts keep their own references. */
    cipher = EVP_CIPHER_fetch(NULL, "ChaCha20", NULL);
    mac = EVP_MAC_fetch(NULL, "Poly1305", NULL);
    if(cipher && mac) {
        ctx->payload = stream_new(cipher, key);
        ctx->header = stream_new(cipher, key + CHACHAPOLY_KEYLEN / 2);
        ctx->mac = EVP_MAC_CTX_new(mac);
    }
    EVP_CIPHER_free(cipher);
    EVP_MAC_free(mac);
    if(!ctx->payload || !ctx->header || !ctx->mac) {
        chachapoly_free(ctx);
        return LIBSSH2_ERROR_ALLOC;
    }
    return LIBSSH2_ERROR_NONE;
}

void
chachapoly_free(struct chachapoly_ctx *ctx)
{
    EVP_CIPHER_CTX_free(ctx->payload);
    EVP_CIPHER_CTX_free(ctx->header);
    EVP_MAC_CTX_free(ctx->mac);
    ctx->payload = ctx->header = NULL;
    ctx->mac = NULL;
}

int
chachapoly_crypt(struct chachapoly_ctx *ctx, u_int seqnr, u_char *dest,
                 const u_char *src, u_int len, u_int aadlen, int do_encrypt)
{
    static const u_char zeros[BLOCK];
    u_char block[BLOCK]; /* the Poly1305 key; RFC 8439 section 2.6 likewise */
    u_char tag[CHACHAPOLY_TAGLEN];
    size_t covered = (size_t)aadlen + len;
    int rc = LIBSSH2_ERROR_ENCRYPT;

    if(len > INT_MAX || aadlen > BLOCK)
        return LIBSSH2_ERROR_INVAL;
    if(!stream_start(ctx->payload, seqnr) ||
       !stream_xor(ctx->payload, block, zeros, BLOCK))
        goto out;

    if(!do_encrypt) {
        rc = LIBSSH2_ERROR_DECRYPT;
        if(!poly_tag(ctx->mac, block, src, covered, tag) ||
           CRYPTO_memcmp(tag, src + covered, CHACHAPOLY_TAGLEN))
            goto out;
    }
    if(!stream_start(ctx->header, seqnr) ||
       !stream_xor(ctx->header, dest, src, aadlen) ||
       !stream_xor(ctx->payload, dest + aadlen, src + aadlen, len))
        goto out;
    if(do_encrypt &&
       !poly_tag(ctx->mac, block, dest, covered, dest + covered))
        goto out;
    rc = LIBSSH2_ERROR_NONE;
out:
    OPENSSL_cleanse(block, sizeof(block));
    return rc;
}

int
chachapoly_get_length(struct chachapoly_ctx *ctx, u_int *plenp, u_int seqnr,
                      const u_char *cp, u_int len)
{
    u_char plain[4];

    if(len < sizeof(plain) || !stream_start(ctx->header, seqnr) ||
       !stream_xor(ctx->header, plain, cp, sizeof(plain)))
        return LIBSSH2_ERROR_DECRYPT;
    *plenp = _libssh2_ntohu32(plain);
    return LIBSSH2_ERROR_NONE;
}
