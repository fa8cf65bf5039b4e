/* kex_work.h - what a key exchange of libssh2 has computed outside of its state machine.
 *
 * libssh2's kex.c calls these (patches 0070 and 0071); kex_work.c is how they work.  Each
 * returns 0 with its result, LIBSSH2_ERROR_EAGAIN as long as that is computed elsewhere (the
 * same call is to be made again then), or another error.
 */
#ifndef HUSSH_KEX_WORK_H
#define HUSSH_KEX_WORK_H

#include <openssl/bn.h>

#include "libssh2.h"
#include "link.h"
#include "mlkem.h"

/* A key pair of ML-KEM-768 for this exchange, of which this is the public key. */
int hussh_kex_kem_key(LIBSSH2_SESSION *session, unsigned char public_key[MLKEM_PUBLIC_KEY]);
/* The secret that the peer encapsulated for that key, which is gone after this. */
int hussh_kex_kem_secret(LIBSSH2_SESSION *session, const unsigned char *ciphertext,
                         unsigned char secret[MLKEM_SECRET]);
/* base to the power of exponent, modulo an odd number. */
int hussh_kex_power(LIBSSH2_SESSION *session, BIGNUM *result, const BIGNUM *base,
                    const BIGNUM *exponent, const BIGNUM *modulus);
/* The exchange is over or given up: its key and what is computed for it are wiped. */
void hussh_kex_forget(LIBSSH2_SESSION *session);

/* For the shim: whether a key exchange of the link waits for a computation. */
int work_is_missing(const hussh_link *link);
/* Drops the link's computation; with its taker it goes on for nothing. */
void work_forget(hussh_link *link);

#endif
