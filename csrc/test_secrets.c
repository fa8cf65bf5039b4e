/* test_secrets.c - the random bytes of a session: its X25519 keys.
 *
 * What patch 0017 changes of libssh2, which no server could see.
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: link.c pump.c messages.c arrivals.c channels.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: aesgcm.c chachapoly.c stubs.c libssh2
 */
#include "testing.h"

/* ---- keys --------------------------------------------------------------- */

struct half {
  unsigned char *public_half;
  libssh2_ed25519_ctx *key;
};

static struct half made(hussh_link *link) {
  struct half half = {NULL, NULL};
  CHECK(!_libssh2_curve25519_new(link->session, &half.public_half, &half.key));
  CHECK(half.public_half && half.key);
  return half;
}

static void forget(hussh_link *link, struct half *half) {
  libssh2_free(link->session, half->public_half);
  _libssh2_ed25519_free(half->key);
}

/* Both sides come to one secret, each with its own key, and another with another key. */
static void test_two_sides_share_a_secret(void) {
  hussh_link *link = hussh_link_over_memory();
  struct half client = made(link), server = made(link), stranger = made(link);
  BIGNUM *ours = BN_new(), *theirs = BN_new(), *other = BN_new();
  CHECK(memcmp(client.public_half, server.public_half, 32));
  CHECK(!_libssh2_curve25519_gen_k(&ours, client.key, server.public_half));
  CHECK(!_libssh2_curve25519_gen_k(&theirs, server.key, client.public_half));
  CHECK(!_libssh2_curve25519_gen_k(&other, stranger.key, client.public_half));
  CHECK(!BN_is_zero(ours) && !BN_cmp(ours, theirs) && BN_cmp(ours, other));
  BN_free(ours);
  BN_free(theirs);
  BN_free(other);
  forget(link, &client);
  forget(link, &server);
  forget(link, &stranger);
  hussh_link_free(link);
}

/* RFC 7748 section 6.1: what an attacker can know in advance is no secret. */
static void test_points_of_low_order_are_refused(void) {
  static unsigned char zero[32], one[32] = {1};
  hussh_link *link = hussh_link_over_memory();
  struct half client = made(link);
  BIGNUM *secret = BN_new();
  CHECK(_libssh2_curve25519_gen_k(&secret, client.key, zero));
  CHECK(_libssh2_curve25519_gen_k(&secret, client.key, one));
  CHECK(BN_is_zero(secret));
  BN_free(secret);
  forget(link, &client);
  hussh_link_free(link);
}

/* ASan sees the key of a session that ends before the server's half has come. */
static void test_a_key_that_nobody_answers_is_freed(void) {
  hussh_link *link = hussh_link_over_memory();
  make_hello();
  CHECK(!hussh_feed(link, hello.bytes, hello.len));
  hussh_pump(link, 1u << 20);
  CHECK(link->session->startup_key_state.key_state_low.curve25519_key);
  hussh_link_free(link);
}

int main(void) {
  test_two_sides_share_a_secret();
  test_points_of_low_order_are_refused();
  test_a_key_that_nobody_answers_is_freed();
  puts("ok");
  return 0;
}
