/* mlkem.h - ML-KEM-768 (FIPS 203) where the libcrypto that is loaded has it: OpenSSL 3.5 and later.
 *
 * kex_work.c uses it.  There is no ML-KEM of our own: without OpenSSL's the caller above computes.
 */
#ifndef HUSSH_MLKEM_H
#define HUSSH_MLKEM_H

#include <openssl/evp.h>

/* Bytes, FIPS 203 section 8. */
#define MLKEM_PUBLIC_KEY 1184
#define MLKEM_CIPHERTEXT 1088
#define MLKEM_SECRET 32

/* Whether libcrypto has it; asked once for the process. */
int mlkem_in_openssl(void);
/* A new key pair, and its public key; NULL: failed.  EVP_PKEY_free wipes it. */
EVP_PKEY *mlkem_new_key(unsigned char public_key[MLKEM_PUBLIC_KEY]);
/* 0: the shared secret of a ciphertext.  One that is wrong gives a random secret, too. */
int mlkem_decapsulate(EVP_PKEY *key, const unsigned char ciphertext[MLKEM_CIPHERTEXT],
                      unsigned char secret[MLKEM_SECRET]);

#endif
