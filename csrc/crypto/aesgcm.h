/* aesgcm.h - aes128-gcm@openssh.com and aes256-gcm@openssh.com, a packet at a time.
 *
 * RFC 5647 with OpenSSH's names.  Takes the place of libssh2's cipher for them,
 * which works in steps of 16 bytes (patch 0015 makes crypt.c call these).  A
 * context belongs to one direction of one session: no locking, no use from two
 * threads at once.  All functions return 0, or a negative libssh2 error number.
 */
#ifndef HUSSH_AESGCM_H
#define HUSSH_AESGCM_H

#include <openssl/evp.h>
#include <sys/types.h>

#define AESGCM_IVLEN 12 /* 4 bytes fixed, then a counter of packets */
#define AESGCM_TAGLEN 16
#define AESGCM_LENGTHLEN 4 /* the packet length: authenticated, not encrypted */

struct aesgcm_ctx {
    EVP_CIPHER_CTX *cipher;
    u_char iv[AESGCM_IVLEN];
    int encrypt;
};

/* Fill `ctx` from a key of 16 or 32 bytes and the first packet's IV; on
 * failure there is nothing to free. */
int aesgcm_init(struct aesgcm_ctx *ctx, const u_char *key, size_t keylen,
                const u_char *iv, int encrypt);

/* Free what init made; OpenSSL wipes its copy of the key. */
void aesgcm_free(struct aesgcm_ctx *ctx);

/* In place: the length field, `len` bytes, and the tag, which is appended or
 * checked.  When it is wrong the bytes are of no use. */
int aesgcm_crypt(struct aesgcm_ctx *ctx, u_char *packet, size_t len);

/* 1 where this processor has instructions for both halves of AES-GCM; without
 * them ChaCha20-Poly1305 is several times faster. */
int hussh_fast_aes(void);

#endif
