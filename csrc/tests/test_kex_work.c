/* test_kex_work.c - kex_work.c and crypto/mlkem.c: what key exchanges have computed.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

#include "channel.h"
#include "kex_work.h"

static BIGNUM *number(BN_ULONG value) {
  BIGNUM *made = BN_new();
  CHECK(made && BN_set_word(made, value));
  return made;
}

/* ---- exponentiations ----------------------------------------------------- */

static int ask(hussh_link *link, BIGNUM *result) {
  BIGNUM *base = number(5), *exponent = number(117), *modulus = number(1009);
  int rc = hussh_kex_power(link->session, result, base, exponent, modulus);
  BN_free(base);
  BN_free(exponent);
  BN_free(modulus);
  return rc;
}

/* 5^117 mod 1009, by hand. */
static BN_ULONG expected(void) {
  BN_ULONG power = 1;
  int i;
  for (i = 0; i < 117; i++)
    power = power * 5 % 1009;
  return power;
}

static void test_power_comes_with_a_later_call(void) {
  hussh_link *link = ready_link();
  BIGNUM *result = BN_new();
  hussh_work *work;
  CHECK(!hussh_work_take(link) && !work_is_missing(link));
  CHECK(ask(link, result) == LIBSSH2_ERROR_EAGAIN && work_is_missing(link));
  CHECK(ask(link, result) == LIBSSH2_ERROR_EAGAIN); /* the same one, not a second */
  CHECK(hussh_pump(link, 0) & HUSSH_WORK);
  work = hussh_work_take(link);
  CHECK(work && !hussh_work_take(link) && hussh_work_kind(work) == HUSSH_WORK_POWER);
  CHECK(hussh_work_owner(work) == hussh_link_token(link));
  CHECK(!(hussh_pump(link, 0) & HUSSH_WORK));
  CHECK(ask(link, result) == LIBSSH2_ERROR_EAGAIN);
  hussh_work_run(work);
  hussh_work_finish(work, NULL, 0);
  CHECK(!work_is_missing(link) && link->ready);
  CHECK(!ask(link, result) && BN_get_word(result) == expected());
  CHECK(!link->work);
  hussh_link_free(link);
  BN_free(result);
}

/* The taker may come back when the link, or what it was taken for, has gone. */
static void test_taken_work_outlives_its_link(void) {
  BIGNUM *result = BN_new();
  int how;
  for (how = 0; how < 5; how++) {
    hussh_link *link = ready_link();
    hussh_work *work = NULL;
    CHECK(ask(link, result) == LIBSSH2_ERROR_EAGAIN);
    if (how)
      work = hussh_work_take(link);
    if (how == 2)
      hussh_work_run(work);
    if (how == 3)
      hussh_kex_forget(link->session);
    if (how == 4) {
      hussh_work_run(work);
      hussh_work_finish(work, NULL, 0);
    }
    hussh_link_free(link);
    if (how && how < 4)
      hussh_work_finish(work, NULL, 0);
  }
  BN_free(result);
}

static void test_works_of_a_tree_are_taken_from_its_root(void) {
  hussh_link *root = ready_link(), *inner;
  hussh_channel *channel = opened(root, 1 << 20, 1 << 20);
  BIGNUM *result = BN_new();
  hussh_work *first, *second;
  inner = hussh_link_over_channel(channel);
  CHECK(inner);
  CHECK(ask(inner, result) == LIBSSH2_ERROR_EAGAIN && ask(root, result) == LIBSSH2_ERROR_EAGAIN);
  first = hussh_work_take(root);
  second = hussh_work_take(root);
  CHECK(hussh_work_owner(first) == hussh_link_token(inner));
  CHECK(hussh_work_owner(second) == hussh_link_token(root) && !hussh_work_take(root));
  hussh_link_free(root); /* before the link over it, which permits that */
  hussh_work_run(first);
  hussh_work_finish(second, NULL, 0);
  hussh_work_finish(first, NULL, 0);
  hussh_link_free(inner);
  BN_free(result);
}

static void test_no_memory_for_a_work(void) {
  hussh_link *link = ready_link();
  BIGNUM *result = BN_new();
  fail_in = 0;
  CHECK(ask(link, result) == LIBSSH2_ERROR_ALLOC);
  fail_in = -1;
  CHECK(!link->work && !hussh_work_take(link));
  hussh_link_free(link);
  BN_free(result);
}

/* A link that is computed for takes nothing, so no more than that is read. */
static void test_a_flood_meanwhile_is_not_read(void) {
  hussh_link *link = ready_link();
  BIGNUM *result = BN_new();
  hussh_work *work;
  size_t fed;
  link->source = SOURCE_MEMORY;
  CHECK(ask(link, result) == LIBSSH2_ERROR_EAGAIN);
  for (fed = 0; fed < RX_FLOOD; fed += sizeof(bulk))
    CHECK(!queue_append(&link->rx, bulk, sizeof(bulk)));
  CHECK(hussh_flush(link) & HUSSH_FULL);
  link->blocked = 1; /* a channel waits for the end of the key exchange */
  set_kex(link, 1);
  link_unlist(link);
  link->ready = 0;
  channels_unblock(link);
  CHECK(!link->ready); /* else the pump would turn until its belt ends the link */
  set_kex(link, 0);
  link->blocked = 0;
  work = hussh_work_take(link);
  hussh_work_run(work);
  hussh_work_finish(work, NULL, 0);
  CHECK(!(hussh_flush(link) & HUSSH_FULL));
  hussh_link_free(link);
  BN_free(result);
}

/* ---- ML-KEM -------------------------------------------------------------- */

static void test_mlkem_elsewhere(void) {
  hussh_link *link = ready_link();
  unsigned char key[MLKEM_PUBLIC_KEY], secret[MLKEM_SECRET], given[MLKEM_PUBLIC_KEY];
  static const unsigned char zeros[MLKEM_SECRET];
  hussh_work *work;
  size_t len;
  CHECK(hussh_kex_kem_key(link->session, key) == LIBSSH2_ERROR_EAGAIN);
  work = hussh_work_take(link);
  CHECK(hussh_work_kind(work) == HUSSH_WORK_KEM_KEY);
  memset(given, 7, sizeof(given));
  hussh_work_finish(work, given, sizeof(given));
  CHECK(!hussh_kex_kem_key(link->session, key) && key[0] == 7 && key[MLKEM_PUBLIC_KEY - 1] == 7);

  CHECK(hussh_kex_kem_secret(link->session, bulk, secret) == LIBSSH2_ERROR_EAGAIN);
  work = hussh_work_take(link);
  CHECK(hussh_work_kind(work) == HUSSH_WORK_KEM_SECRET);
  CHECK(!memcmp(hussh_work_input(work, &len), bulk, MLKEM_CIPHERTEXT) && len == MLKEM_CIPHERTEXT);
  memset(given, 9, MLKEM_SECRET);
  hussh_work_finish(work, given, MLKEM_SECRET);
  CHECK(!memcmp(given, zeros, MLKEM_SECRET)); /* no copy of the secret stays */
  CHECK(!hussh_kex_kem_secret(link->session, bulk, secret) && secret[0] == 9);

  /* a result that is none, and one of another length */
  CHECK(hussh_kex_kem_key(link->session, key) == LIBSSH2_ERROR_EAGAIN);
  hussh_work_finish(hussh_work_take(link), NULL, 0);
  CHECK(hussh_kex_kem_key(link->session, key) == LIBSSH2_ERROR_KEX_FAILURE && !link->work);
  CHECK(hussh_kex_kem_secret(link->session, bulk, secret) == LIBSSH2_ERROR_EAGAIN);
  hussh_work_finish(hussh_work_take(link), given, MLKEM_SECRET - 1);
  CHECK(hussh_kex_kem_secret(link->session, bulk, secret) == LIBSSH2_ERROR_KEX_FAILURE);
  hussh_link_free(link);
}

/* What a server does with our public key, by OpenSSL. */
static void encapsulate(const unsigned char *key, unsigned char *ciphertext,
                        unsigned char *secret) {
  EVP_PKEY *peer = EVP_PKEY_new_raw_public_key_ex(NULL, "ML-KEM-768", NULL, key, MLKEM_PUBLIC_KEY);
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, peer, NULL);
  size_t len = MLKEM_CIPHERTEXT, secret_len = MLKEM_SECRET;
  CHECK(context && EVP_PKEY_encapsulate_init(context, NULL) > 0 &&
        EVP_PKEY_encapsulate(context, ciphertext, &len, secret, &secret_len) > 0);
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(peer);
}

static void test_mlkem_of_openssl(void) {
  hussh_link *link = ready_link();
  unsigned char key[MLKEM_PUBLIC_KEY], again[MLKEM_PUBLIC_KEY], ciphertext[MLKEM_CIPHERTEXT];
  unsigned char secret[MLKEM_SECRET], ours[MLKEM_SECRET];
  CHECK(hussh_kem_in_c());
  CHECK(!hussh_kex_kem_key(link->session, key) && !hussh_work_take(link));
  encapsulate(key, ciphertext, secret);
  CHECK(!hussh_kex_kem_secret(link->session, ciphertext, ours) && !memcmp(ours, secret, sizeof(ours)));
  CHECK(!link->kem_key); /* used once */

  CHECK(!hussh_kex_kem_key(link->session, again) && memcmp(key, again, sizeof(key)));
  encapsulate(again, ciphertext, secret);
  ciphertext[100] ^= 1;
  CHECK(!hussh_kex_kem_secret(link->session, ciphertext, ours) && memcmp(ours, secret, sizeof(ours)));

  CHECK(!hussh_kex_kem_key(link->session, key) && link->kem_key);
  hussh_kex_forget(link->session);
  CHECK(!link->kem_key);
  CHECK(!hussh_kex_kem_key(link->session, key)); /* one that the end of the link finds */
  hussh_link_free(link);
}

int main(void) {
  test_power_comes_with_a_later_call();
  test_taken_work_outlives_its_link();
  test_works_of_a_tree_are_taken_from_its_root();
  test_no_memory_for_a_work();
  test_a_flood_meanwhile_is_not_read();
  if (mlkem_in_openssl())
    test_mlkem_of_openssl();
  else
    test_mlkem_elsewhere();
  CHECK(!hussh_live());
  return 0;
}
