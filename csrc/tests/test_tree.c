/* test_tree.c - tree.c and pump.c: links over links, file descriptors, floods, lack of memory.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- trees -------------------------------------------------------------- */

static void tree(hussh_link *links[3], hussh_channel *channels[3], hussh_link *root) {
  int i;
  links[0] = root;
  for (i = 0; i < 3; i++) {
    channels[i] = hussh_channel_open(links[i], "x", 1, NULL, 0, 5000);
    say(links[i], "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 7, 5000, 5000);
    CHECK(channels[i]->state == HUSSH_CH_OPEN);
    if (i < 2) {
      CHECK((links[i + 1] = hussh_link_over_channel(channels[i])));
      make_ready(links[i + 1]);
    }
  }
}

static void test_freeing_in_every_order(void) {
  static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                   {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  int variant, order, i;
  for (order = 0; order < 6; order++)
    for (variant = 0; variant < 64; variant++) {
      hussh_link *links[3];
      hussh_channel *channels[3];
      int freed[3] = {0, 0, 0};
      tree(links, channels, ready_link());
      hussh_channel_write(channels[2], bulk, sizeof(bulk));
      if (variant & 1)
        hussh_pump(links[0], 1);
      if (variant & 2)
        hussh_link_kill(links[orders[order][1]]);
      if (variant & 4)
        hussh_link_kill(links[0]);
      if (variant & 8)
        say(links[0], "bu", MSG_CHANNEL_CLOSE, 0);
      for (i = 0; i < 3; i++) {
        int at = orders[order][i], j;
        if (variant & 16)
          hussh_channel_free(channels[at]);
        hussh_link_free(links[at]);
        freed[at] = 1;
        for (j = at + 1; j < 3 && !freed[j] && !(variant & 16); j++)
          CHECK(links[j]->dead);
        if (!freed[0] && variant & 32)
          hussh_pump(links[0], 1);
      }
      CHECK(hussh_live() == 0);
    }
}

static void test_the_end_of_a_link_reaches_those_over_it(void) {
  hussh_link *links[3];
  hussh_channel *channels[3];
  tree(links, channels, ready_link());
  hussh_pump(links[0], 1);
  count_events(links[0]);
  hussh_feed(links[0], NULL, 0);
  hussh_pump(links[0], 1);
  CHECK(dead_by(links[0], HUSSH_DEAD_EOF) && dead_by(links[1], HUSSH_DEAD_EOF));
  CHECK(dead_by(links[2], HUSSH_DEAD_EOF) && channels[2]->state == HUSSH_CH_DEAD);
  CHECK(count_events(links[0]) == 6);
  hussh_channel_free(channels[2]);
  hussh_link_free(links[0]);
  hussh_link_free(links[1]);
  hussh_link_free(links[2]);

  tree(links, channels, ready_link());
  hussh_channel_free(channels[0]); /* the way is given up, the bastion stays */
  hussh_pump(links[0], 1);
  CHECK(dead_by(links[0], HUSSH_DEAD_NOT) && dead_by(links[2], HUSSH_DEAD_EOF));
  hussh_link_free(links[0]);
  hussh_link_free(links[2]);
  hussh_link_free(links[1]);
}

/* ---- floods -------------------------------------------------------------- */

/* A peer that asks and never reads makes us stop reading, not grow. */
static void test_flood_of_questions(void) {
  static const unsigned char packet[16] = {0, 0, 0, 12, 10, 30};
  hussh_link *link = ready_link();
  struct message m = {.len = 0};
  size_t fed = 0, queued;
  while (m.len + 16 <= sizeof(m.bytes))
    put(&m, packet, 16);
  while (fed < 10 << 20) {
    hussh_feed(link, m.bytes, m.len);
    fed += m.len;
    hussh_pump(link, 1 << 20);
  }
  queued = link->tx.len;
  CHECK(queued >= TX_FLOOD && queued < TX_FLOOD + 100 && link->received < fed);
  hussh_pump(link, 1 << 20);
  CHECK(link->tx.len == queued);
  while (link->received < fed) { /* it goes on when the peer reads again */
    uint64_t before = link->received;
    CHECK(hussh_drain(link, bulk, sizeof(bulk)));
    hussh_pump(link, 1 << 20);
    CHECK(link->tx.len <= queued && (link->received > before || link->tx.len));
  }
  CHECK(dead_by(link, HUSSH_DEAD_NOT));
  hussh_link_free(link);
}

/* The same from behind a bastion that does not read, and goes on writing. */
static void test_flood_through_a_bastion(void) {
  static const unsigned char packet[16] = {0, 0, 0, 12, 10, 30};
  hussh_link *links[3];
  hussh_channel *channels[3];
  struct message m = {.len = 0};
  int i;
  tree(links, channels, ready_link());
  channels[0]->recv_window_max = channels[0]->recv_window = 8 << 20;
  while (m.len < 32000)
    put(&m, packet, 16);
  for (i = 0; i < 250; i++) {
    say(links[0], "bud", MSG_CHANNEL_DATA, 0, m.bytes, m.len);
    hussh_pump(links[0], 1 << 20);
  }
  CHECK(dead_by(links[0], HUSSH_DEAD_NOT) && dead_by(links[1], HUSSH_DEAD_NOT));
  CHECK(links[1]->tx.len < TX_FLOOD + 100 && links[1]->rx.len > 1 << 20);
  CHECK(links[0]->tx.len < 10000); /* no more than the window of the channel */
  say(links[0], "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 64 << 20);
  while (links[0]->tx.len) {
    hussh_drain(links[0], bulk, sizeof(bulk));
    hussh_pump(links[0], 1);
  }
  CHECK(!links[1]->rx.len && !links[1]->tx.len);
  hussh_link_free(links[2]);
  hussh_link_free(links[1]);
  hussh_link_free(links[0]);
}

/* ---- file descriptors --------------------------------------------------- */

static void test_nothing_waits_for_a_peer_that_does_not_read(void) {
  hussh_link *links[3];
  hussh_channel *channels[3];
  int fds[2], flags, i;
  hussh_link *root;
  ssize_t n;
  CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
  CHECK((root = hussh_link_over_fds(fds[0], fds[0])));
  make_ready(root);
  tree(links, channels, root);
  for (i = 0; i < 100; i++) {
    say(root, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 100000);
    hussh_channel_write(channels[0]->child ? channels[2] : channels[0], bulk, sizeof(bulk));
    say(links[1], "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 100000);
    say(links[2], "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 100000);
    flags = hussh_pump(root, 1);
  }
  CHECK(flags & HUSSH_WANT_WRITE && root->tx.len <= TX_HIGH + 40000);
  CHECK(links[1]->tx.len <= TX_HIGH + 40000 && links[2]->tx.len <= TX_HIGH + 40000);
  while ((n = read(fds[1], bulk, sizeof(bulk))) > 0)
    hussh_flush(root);
  CHECK(n < 0 && errno == EAGAIN && !(hussh_flush(root) & HUSSH_WANT_WRITE));
  memset(bulk, 0, sizeof(bulk));
  CHECK(!hussh_channel_request(channels[2], "env", 3, 1, NULL, 0));
  hussh_link_free(links[2]); /* no I/O: what is queued stays so */
  hussh_link_free(links[1]);
  hussh_link_free(root);
  CHECK(read(fds[1], bulk, sizeof(bulk)) < 0 && errno == EAGAIN);
  close(fds[0]);
  close(fds[1]);
}

static void test_budget_and_end_of_a_stream(void) {
  static const unsigned char packet[16] = {0, 0, 0, 12, 6, 2};
  int fds[2], ends[2], i;
  hussh_link *root;
  CHECK(!pipe2(fds, O_NONBLOCK) && !pipe2(ends, O_NONBLOCK));
  CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
  CHECK((root = hussh_link_over_fds(fds[0], ends[1])));
  make_ready(root);
  for (i = 0; i < 1 << 16; i++)
    CHECK(write(fds[1], packet, 16) == 16);
  CHECK(hussh_pump(root, 1) & HUSSH_MORE);
  CHECK(root->received == 256 << 10);
  CHECK(hussh_pump(root, 512 << 10) & HUSSH_MORE);
  CHECK(root->received == 768 << 10);
  hussh_pump(root, 1 << 20);
  CHECK(root->received == 1 << 20 && !(hussh_pump(root, 1 << 20) & HUSSH_MORE));
  close(fds[1]);
  hussh_pump(root, 1);
  CHECK(dead_by(root, HUSSH_DEAD_EOF));
  hussh_link_free(root);
  close(fds[0]);
  CHECK((root = hussh_link_over_fds(ends[1], ends[1])));
  hussh_pump(root, 1); /* the writing end of a pipe cannot be read */
  CHECK(dead_by(root, HUSSH_DEAD_OS) && root->code == EBADF);
  hussh_link_free(root);
  close(ends[0]);
  close(ends[1]);
}

/* ---- no memory ---------------------------------------------------------- */

static int whole_life(void) {
  hussh_link *root = hussh_link_over_memory(), *inner = NULL;
  hussh_channel *outer, *channel = NULL;
  int dead;
  if (!root)
    return 0;
  hussh_pump(root, 1);
  hussh_feed(root, hello.bytes, hello.len);
  hussh_pump(root, 1);
  queue_clear(&root->tx);
  root->session->socket_state = LIBSSH2_SOCKET_CONNECTED;
  make_ready(root);
  outer = hussh_channel_open(root, "direct-tcpip", 12, bulk, 100, 5000);
  say(root, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 7, 1 << 20, 5000);
  if (outer && outer->state == HUSSH_CH_OPEN)
    inner = hussh_link_over_channel(outer);
  if (inner) {
    make_ready(inner);
    channel = hussh_channel_open(inner, "session", 7, NULL, 0, 100000);
  }
  if (channel) {
    say(inner, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 7, 1 << 20, 32768);
    hussh_channel_request(channel, "exec", 4, 1, bulk, 20000);
    hussh_channel_write(channel, bulk, sizeof(bulk));
    say(inner, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)30000);
    say(inner, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)30000);
    hussh_pump(root, 1);
  }
  set_kex(root, 1);
  say(root, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  set_kex(root, 0);
  root->authenticated = 0;
  say(root, "bd", MSG_USERAUTH_BANNER, bulk, (size_t)30000);
  hussh_pump(root, 1);
  dead = root->dead ? root->dead : inner ? inner->dead : 0;
  hussh_link_free(root);
  if (inner)
    hussh_link_free(inner);
  return dead;
}

static void test_every_allocation_may_fail(void) {
  long n, died = 0;
  CHECK(!whole_life() && hussh_live() == 0);
  for (n = 0;; n++) {
    int dead;
    fail_in = n;
    dead = whole_life();
    CHECK(hussh_live() == 0);
    if (fail_in >= 0)
      break; /* it needs no more than these */
    CHECK(dead == HUSSH_DEAD_NOT || dead == HUSSH_DEAD_MEMORY);
    died += dead != 0;
  }
  fail_in = -1;
  CHECK(n > 20 && died > 10);
}

int main(void) {
  make_hello();
  test_freeing_in_every_order();
  test_the_end_of_a_link_reaches_those_over_it();
  test_flood_of_questions();
  test_flood_through_a_bastion();
  test_nothing_waits_for_a_peer_that_does_not_read();
  test_budget_and_end_of_a_stream();
  test_every_allocation_may_fail();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
