/* kex_work.c - computations of a key exchange that take long, or that C cannot do.
 *
 * Theory of operation
 *
 * libssh2's key exchange computes in the middle of its state machine, which the pump drives,
 * which an event loop may call.  An exponentiation in a group of 8192 bits would stop that
 * loop for 100 ms, and ML-KEM an older OpenSSL does not have at all.  So kex.c asks for such a
 * result by one of the calls of kex_work.h.  The first call makes a hussh_work and returns
 * EAGAIN, and the exchange stands still.  The pump reports HUSSH_WORK; whoever called it takes
 * the work, has it computed wherever that harms nobody (hussh_work_run needs no lock), and
 * gives back the result with the lock of the tree held.  That makes the link ready for the
 * next pump, where kex.c makes the same call again and goes on with the result.
 *
 * A link has at most one work.  What is taken belongs to its taker, also when the link has
 * been freed meanwhile; hussh_work_finish frees it then.  While a work is under way the peer can
 * send nothing that the exchange would take; see read_in() in pump.c for how much is read.
 *
 * A key pair of ML-KEM is made for one exchange, used once and freed with the use; it lives
 * here where OpenSSL has made it, and else with the taker, under the token of its link.
 */
#include "kex_work.h"

#include <openssl/crypto.h>

#include "tree.h"

struct hussh_work {
  hussh_link *link; /* NULL: it has been freed, or does not want the result any more */
  hussh_work *next; /* of those that nobody has taken, in the root's list */
  int kind, taken, done, failed;
  uint64_t owner;
  unsigned char bytes[MLKEM_PUBLIC_KEY]; /* what is to be computed with, and then the result */
  size_t len;
  BIGNUM *base, *exponent, *modulus, *result;
};

static void work_free(hussh_work *work) {
  OPENSSL_cleanse(work->bytes, sizeof(work->bytes));
  BN_free(work->base);
  BN_clear_free(work->exponent);
  BN_free(work->modulus);
  BN_clear_free(work->result);
  free(work);
}

static hussh_work *work_new(hussh_link *link, int kind, const void *bytes, size_t len) {
  hussh_work **last = &link->root->works, *work = calloc(1, sizeof(*work));
  if (!work)
    return NULL;
  work->link = link;
  work->kind = kind;
  work->owner = link->token;
  if (len)
    memcpy(work->bytes, bytes, len);
  work->len = len;
  link->work = work;
  while (*last)
    last = &(*last)->next;
  *last = work;
  return work;
}

void work_forget(hussh_link *link) {
  hussh_work *work = link->work, **at = &link->root->works;
  link->work = NULL;
  if (!work)
    return;
  if (work->taken && !work->done) {
    work->link = NULL; /* its taker frees it */
    return;
  }
  while (*at && *at != work)
    at = &(*at)->next;
  if (*at)
    *at = work->next;
  work_free(work);
}

int work_is_missing(const hussh_link *link) {
  return link->work && !link->work->done;
}

/* ---- for libssh2 -------------------------------------------------------- */

/* What became of the link's work: 0, EAGAIN or an error. */
static int state_of(const hussh_work *work) {
  if (!work)
    return LIBSSH2_ERROR_ALLOC;
  if (!work->done)
    return LIBSSH2_ERROR_EAGAIN;
  return work->failed ? LIBSSH2_ERROR_KEX_FAILURE : 0;
}

static int take_bytes(hussh_link *link, unsigned char *result, size_t len) {
  int rc = state_of(link->work);
  if (rc == LIBSSH2_ERROR_EAGAIN)
    return rc;
  if (!rc && link->work->len != len)
    rc = LIBSSH2_ERROR_KEX_FAILURE;
  if (!rc)
    memcpy(result, link->work->bytes, len);
  work_forget(link);
  return rc;
}

int hussh_kex_kem_key(LIBSSH2_SESSION *session, unsigned char public_key[MLKEM_PUBLIC_KEY]) {
  hussh_link *link = session->abstract;
  if (mlkem_in_openssl()) {
    EVP_PKEY_free(link->kem_key);
    link->kem_key = mlkem_new_key(public_key);
    return link->kem_key ? 0 : LIBSSH2_ERROR_KEX_FAILURE;
  }
  if (!link->work)
    work_new(link, HUSSH_WORK_KEM_KEY, NULL, 0);
  return take_bytes(link, public_key, MLKEM_PUBLIC_KEY);
}

int hussh_kex_kem_secret(LIBSSH2_SESSION *session, const unsigned char *ciphertext,
                         unsigned char secret[MLKEM_SECRET]) {
  hussh_link *link = session->abstract;
  if (link->kem_key) {
    int rc = mlkem_decapsulate(link->kem_key, ciphertext, secret);
    EVP_PKEY_free(link->kem_key);
    link->kem_key = NULL;
    return rc ? LIBSSH2_ERROR_KEX_FAILURE : 0;
  }
  if (!link->work)
    work_new(link, HUSSH_WORK_KEM_SECRET, ciphertext, MLKEM_CIPHERTEXT);
  return take_bytes(link, secret, MLKEM_SECRET);
}

int hussh_kex_power(LIBSSH2_SESSION *session, BIGNUM *result, const BIGNUM *base,
                    const BIGNUM *exponent, const BIGNUM *modulus) {
  hussh_link *link = session->abstract;
  hussh_work *work = link->work;
  int rc;
  if (!work && (work = work_new(link, HUSSH_WORK_POWER, NULL, 0))) {
    work->base = BN_dup(base);
    work->exponent = BN_dup(exponent);
    work->modulus = BN_dup(modulus);
    work->result = BN_new();
    if (!work->base || !work->exponent || !work->modulus || !work->result) {
      work_forget(link);
      work = NULL;
    }
  }
  rc = state_of(work);
  if (rc == LIBSSH2_ERROR_EAGAIN)
    return rc;
  if (!rc && !BN_copy(result, work->result))
    rc = LIBSSH2_ERROR_ALLOC;
  work_forget(link);
  return rc;
}

void hussh_kex_forget(LIBSSH2_SESSION *session) {
  hussh_link *link = session->abstract;
  work_forget(link);
  EVP_PKEY_free(link->kem_key);
  link->kem_key = NULL;
}

/* ---- for whoever calls the pump ----------------------------------------- */

int hussh_kem_in_c(void) {
  return mlkem_in_openssl();
}

hussh_work *hussh_work_take(hussh_link *root) {
  hussh_work *work = root->works;
  if (work) {
    root->works = work->next;
    work->next = NULL;
    work->taken = 1;
  }
  return work;
}

int hussh_work_kind(const hussh_work *work) {
  return work->kind;
}

uint64_t hussh_work_owner(const hussh_work *work) {
  return work->owner;
}

const void *hussh_work_input(const hussh_work *work, size_t *len) {
  *len = work->len;
  return work->bytes;
}

void hussh_work_run(hussh_work *work) {
  BN_CTX *context = BN_CTX_new();
  /* The exponent is secret, and how long this takes must not tell it. */
  BN_set_flags(work->exponent, BN_FLG_CONSTTIME);
  work->failed = !context || !BN_mod_exp(work->result, work->base, work->exponent, work->modulus,
                                         context);
  BN_CTX_free(context);
}

void hussh_work_finish(hussh_work *work, void *result, size_t len) {
  if (work->kind != HUSSH_WORK_POWER) {
    work->failed = !len || len > sizeof(work->bytes);
    if (!work->failed) {
      memcpy(work->bytes, result, len);
      work->len = len;
    }
  }
  if (len)
    OPENSSL_cleanse(result, len);
  if (!work->link) {
    work_free(work);
    return;
  }
  work->done = 1;
  link_ready(work->link);
}
