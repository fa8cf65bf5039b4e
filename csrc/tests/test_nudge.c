/* test_nudge.c - what a pump sends of itself so that a peer does not wait: nudges and credit.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

static int hears_within(hussh_link *root, int type) {
  struct message outer;
  if (!hear(root))
    return 0;
  CHECK(received.bytes[0] == MSG_CHANNEL_DATA && received.len >= 9);
  outer = received;
  CHECK(unpack(outer.bytes + 9, outer.len - 9, &received) == outer.len - 9);
  return received.bytes[0] == type;
}

static void say_within(hussh_link *root, hussh_channel *channel, int ignores) {
  static const unsigned char packet[16] = {0, 0, 0, 12, 6, 2};
  struct message m;
  m.len = 0;
  while (ignores--)
    put(&m, packet, sizeof(packet));
  say(root, "bud", MSG_CHANNEL_DATA, channel->local_id, m.bytes, m.len);
}

static void test_nudge(void) {
  hussh_link *root = ready_link(), *inner;
  hussh_channel *outer = opened(root, 1 << 20, 1 << 20), *channel;
  int i;
  CHECK((inner = hussh_link_over_channel(outer)));
  make_ready(inner);
  hussh_pump(root, 1);
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(!hear(root)); /* nobody waits for anything */
  channel = hussh_channel_open(inner, "session", 7, NULL, 0, 1000);
  hussh_pump(root, 1);
  CHECK(hears_within(root, 90) && !hear(root));
  hussh_pump(root, 1);
  CHECK(!hear(root)); /* no bytes, no nudge */
  for (i = 0; i < 8; i++) {
    say_within(root, outer, 1);
    hussh_pump(root, 1);
    CHECK(i < 6 ? hears_within(root, 2) : !hear(root)); /* a peer cannot make us chatter */
  }
  say(inner, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 5, 1000, 1000);
  CHECK(!hussh_channel_request(channel, "exec", 4, 1, NULL, 0));
  hussh_pump(root, 1);
  CHECK(hears_within(root, 98));
  set_kex(inner, 1);
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(!hear(root)); /* not in a key exchange */
  set_kex(inner, 0);
  say_within(root, outer, 1100);
  hussh_pump(root, 1);
  CHECK(!hear(root)); /* not for bulk data */
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(hears_within(root, 2));
  inner->unnudged = 1;
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(!hear(root)); /* not for servers that it would stop */
  inner->unnudged = 0;
  say(inner, "bu", MSG_CHANNEL_CLOSE, 0);
  hussh_pump(root, 1);
  CHECK(hears_within(root, 97) && inner->waiting == 0 && root->waiting == 0);
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(!hear(root));
  CHECK(hussh_link_send(inner, "P\0\0\0\1k\1", 7) >= 0); /* a global request, answered, too */
  hussh_pump(root, 1);
  CHECK(hears_within(root, 80) && !hear(root));
  say_within(root, outer, 1);
  hussh_pump(root, 1);
  CHECK(hears_within(root, 2));
  say(inner, "b", MSG_REQUEST_FAILURE);
  hussh_pump(root, 1);
  CHECK(inner->global_replies == 1 && !hear(root));
  hussh_link_free(inner);
  hussh_link_free(root);
}

/* Credit of a channel that carries a link is for what that link has read. */
static void test_credit_of_a_carried_link(void) {
  hussh_link *root = ready_link(), *inner;
  hussh_channel *outer = opened(root, 64, 1000);
  say_within(root, outer, 2); /* before anybody made the link */
  CHECK(outer->recv_window == 32);
  CHECK((inner = hussh_link_over_channel(outer)) && inner->rx.len == 32 && !outer->rx.len);
  CHECK(hussh_link_over_channel(outer) == NULL);
  CHECK(hussh_channel_write(outer, "x", 1) == HUSSH_E_STATE);
  make_ready(inner);
  say_within(root, outer, 2);
  CHECK(outer->recv_window == 0 && !root->tx.len);
  hussh_pump(root, 1);
  CHECK(hears(root, "buu", MSG_CHANNEL_WINDOW_ADJUST, 1000, 64) && outer->recv_window == 64);
  say(root, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk,
      (size_t)32); /* stderr of a forwarding: nobody's */
  CHECK(hears(root, "buu", MSG_CHANNEL_WINDOW_ADJUST, 1000, 32) && !inner->rx.len);
  hussh_link_kill(inner);
  say_within(root, outer, 2);
  CHECK(!inner->rx.len && !hear(root)); /* the dead collect nothing */
  hussh_link_free(inner);
  CHECK(outer->child == NULL);
  hussh_link_free(root);
}

int main(void) {
  test_nudge();
  test_credit_of_a_carried_link();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
