/* chachapoly.h - chacha20-poly1305@openssh.com on OpenSSL 3.
 *
 * Takes the place of libssh2's cipher-chachapoly.h (patch 0001 makes crypt.c
 * include this file).  Only crypt.c calls these functions.  A context belongs
 * to one direction of one session: no locking, no use from two threads at
 * once.  All functions return 0, or a negative libssh2 error number.
 */
#ifndef HUSSH_CHACHAPOLY_H
#define HUSSH_CHACHAPOLY_H

#include <openssl/evp.h>
#include <sys/types.h>

#define CHACHAPOLY_KEYLEN 64 /* payload key, then packet length key */
#define CHACHAPOLY_TAGLEN 16

struct chachapoly_ctx {
    EVP_CIPHER_CTX *payload;
    EVP_CIPHER_CTX *header;
    EVP_MAC_CTX *mac;
};

/* Fill `ctx` from a 64-byte key; on failure there is nothing to free. */
int chachapoly_init(struct chachapoly_ctx *ctx, const u_char *key,
                    u_int keylen);

/* Free what init made; OpenSSL wipes its copies of the keys. */
void chachapoly_free(struct chachapoly_ctx *ctx);

/* Encrypt `aadlen` + `len` bytes and append the tag, or check the tag that
 * follows them and decrypt; `dest` may be `src`.  When the tag is wrong
 * nothing is written.  `aadlen` is 4, the packet length field. */
int chachapoly_crypt(struct chachapoly_ctx *ctx, u_int seqnr, u_char *dest,
                     const u_char *src, u_int len, u_int aadlen,
                     int do_encrypt);

/* Decrypt the packet length from the first 4 of `len` bytes at `cp`. */
int chachapoly_get_length(struct chachapoly_ctx *ctx, u_int *plenp,
                          u_int seqnr, const u_char *cp, u_int len);

#endif
