/* aesgcm.c - aes128-gcm@openssh.com and aes256-gcm@openssh.com on OpenSSL 3.
 *
 * One call of OpenSSL does a whole packet, which is what makes its
 * implementations with AES and carry-less multiplication instructions fast.
 * Per packet there is one IV set, and no fetch and no allocation.
 */
#include "libssh2_priv.h"
#include "aesgcm.h"

#include <limits.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

int
aesgcm_init(struct aesgcm_ctx *ctx, const u_char *key, size_t keylen,
            const u_char *iv, int encrypt)
{
    EVP_CIPHER *cipher;

    ctx->cipher = NULL;
    if(keylen != 16 && keylen != 32)
        return LIBSSH2_ERROR_INVAL;

    /* The context keeps a reference of its own. */
    cipher = EVP_CIPHER_fetch(NULL, keylen == 16 ? "AES-128-GCM" :
                              "AES-256-GCM", NULL);
    if(cipher)
        ctx->cipher = EVP_CIPHER_CTX_new();
    if(ctx->cipher && EVP_CipherInit_ex2(ctx->cipher, cipher, key, NULL,
                                         encrypt, NULL) != 1)
        aesgcm_free(ctx);
    EVP_CIPHER_free(cipher);
    if(!ctx->cipher)
        return LIBSSH2_ERROR_ALLOC;
    memcpy(ctx->iv, iv, AESGCM_IVLEN);
    ctx->encrypt = encrypt;
    return LIBSSH2_ERROR_NONE;
}

void
aesgcm_free(struct aesgcm_ctx *ctx)
{
    EVP_CIPHER_CTX_free(ctx->cipher);
    ctx->cipher = NULL;
}

/* The counter is big-endian and 64 bits long (RFC 5647 section 7.1). */
static void
next_iv(struct aesgcm_ctx *ctx)
{
    int i = AESGCM_IVLEN;

    while(i > 4 && ++ctx->iv[--i] == 0)
        ;
}

int
aesgcm_crypt(struct aesgcm_ctx *ctx, u_char *packet, size_t len)
{
    EVP_CIPHER_CTX *cipher = ctx->cipher;
    u_char *text = packet + AESGCM_LENGTHLEN, *tag;
    int done = 0, rest = 0;

    if(len > INT_MAX)
        return LIBSSH2_ERROR_INVAL;
    tag = text + len;
    if(EVP_CipherInit_ex2(cipher, NULL, NULL, ctx->iv, -1, NULL) != 1)
        return LIBSSH2_ERROR_ENCRYPT;
    next_iv(ctx); /* also after a failure: an IV is used once */
    if(!ctx->encrypt &&
       EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, AESGCM_TAGLEN,
                           tag) != 1)
        return LIBSSH2_ERROR_DECRYPT;
    if(EVP_CipherUpdate(cipher, NULL, &done, packet, AESGCM_LENGTHLEN) != 1 ||
       EVP_CipherUpdate(cipher, text, &done, text, (int)len) != 1 ||
       EVP_CipherFinal_ex(cipher, tag, &rest) != 1 ||
       (size_t)done != len || rest)
        return ctx->encrypt ? LIBSSH2_ERROR_ENCRYPT : LIBSSH2_ERROR_DECRYPT;
    if(ctx->encrypt &&
       EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, AESGCM_TAGLEN,
                           tag) != 1)
        return LIBSSH2_ERROR_ENCRYPT;
    return LIBSSH2_ERROR_NONE;
}

int
hussh_fast_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    unsigned int eax, ebx, ecx, edx;

    /* Not __builtin_cpu_supports: a compiler that brings a runtime of its own,
     * such as zig's, may answer 0 to that on every processor. */
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_AES) &&
        (ecx & bit_PCLMUL);
#elif defined(__aarch64__)
    unsigned long need = HWCAP_AES | HWCAP_PMULL;

    return (getauxval(AT_HWCAP) & need) == need;
#else
    return 0;
#endif
}
