/* test_secrets.c - the random bytes of a session: its X25519 keys and its padding.
 *
 * What patches 0017 and 0018 change of libssh2, which no server could see.
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

#include "transport.h"

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

/* ---- padding ------------------------------------------------------------ */

#define PACKETS 300
#define PADDING 11 /* of a message of 8 bytes, which with its head has 13 */

/* Each byte of the stock is used once: what one packet has in a row no other has. */
static void test_no_padding_is_used_twice(void) {
  static unsigned char seen[PACKETS * PADDING];
  hussh_link *link = ready_link();
  const size_t row = 6; /* long enough that chance does not repeat it */
  size_t i, before;
  for (i = 0; i < PACKETS; i++) {
    CHECK(!_libssh2_transport_send(link->session, bulk, 8, NULL, 0));
    CHECK(link->tx.len == 13 + PADDING && queue_head(&link->tx)[4] == PADDING);
    memcpy(seen + i * PADDING, queue_head(&link->tx) + 13, PADDING);
    queue_drop(&link->tx, link->tx.len);
  }
  for (i = row; i + row <= sizeof(seen); i++)
    for (before = 0; before < i; before++)
      CHECK(memcmp(seen + i, seen + before, row));
  hussh_link_free(link);
}

/* A stock that is almost empty is filled before it is asked for more than it has. */
static void test_every_length_of_padding_is_full(void) {
  hussh_link *link = ready_link();
  size_t len, round, at;
  for (len = 1; len <= 8; len++) {
    unsigned char any[20] = {0};
    size_t padding = 0;
    for (round = 0; round < 64; round++) {
      CHECK(!_libssh2_transport_send(link->session, bulk, len, NULL, 0));
      padding = queue_head(&link->tx)[4];
      CHECK(padding >= 4 && padding < sizeof(any) && link->tx.len == 5 + len + padding);
      for (at = 0; at < padding; at++)
        any[at] |= queue_head(&link->tx)[5 + len + at];
      queue_drop(&link->tx, link->tx.len);
    }
    for (at = 0; at < padding; at++)
      CHECK(any[at]); /* not one byte stayed zero in all of the packets */
  }
  hussh_link_free(link);
}

int main(void) {
  test_two_sides_share_a_secret();
  test_points_of_low_order_are_refused();
  test_a_key_that_nobody_answers_is_freed();
  test_no_padding_is_used_twice();
  test_every_length_of_padding_is_full();
  puts("ok");
  return 0;
}
