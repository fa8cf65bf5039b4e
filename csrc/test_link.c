/* test_link.c - queue.h, link.c, pump.c and messages.c, without a server.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: link.c pump.c messages.c channels.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: chachapoly.c stubs.c libssh2
 */
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned char bulk[70000];

/* ---- queue.h ------------------------------------------------------------ */

static void test_queue_keeps_every_byte(void) {
  hussh_queue q = {0};
  unsigned char in[3000], out[3000];
  uint8_t written = 0, read = 0;
  size_t expected = 0, i;
  int round;
  for (round = 0; round < 20000; round++) {
    size_t n = random_number() % (round % 100 ? 300 : sizeof(in));
    if (random_number() % 2) {
      for (i = 0; i < n; i++)
        in[i] = written++;
      CHECK(!queue_append(&q, in, n));
      expected += n;
    } else {
      size_t got = queue_take(&q, out, n);
      CHECK(got == (n < expected ? n : expected));
      for (i = 0; i < got; i++)
        CHECK(out[i] == read++);
      expected -= got;
    }
    CHECK(q.len == expected && q.head + q.len <= q.size);
  }
  queue_clear(&q);
  CHECK(!q.bytes && !q.len && !queue_take(&q, out, 1));
}

static void test_queue_gives_back_what_it_does_not_need(void) {
  hussh_queue q = {0};
  CHECK(!queue_append(&q, bulk, sizeof(bulk)));
  queue_drop(&q, sizeof(bulk));
  CHECK(q.size >= sizeof(bulk)); /* it was just needed */
  CHECK(!queue_append(&q, bulk, 10));
  queue_drop(&q, 10);
  CHECK(!q.size);
  CHECK(!queue_append(&q, bulk, 10));
  queue_drop(&q, 10);
  CHECK(q.size && q.size <= HUSSH_QUEUE_KEEP); /* small ones stay */
  queue_clear(&q);
}

/* A queue that is kept full moves its bytes only now and then. */
static void test_queue_that_is_full_does_not_copy_at_every_turn(void) {
  hussh_queue q = {0};
  int round, moves = 0;
  for (round = 0; round < 15; round++)
    CHECK(!queue_append(&q, bulk, sizeof(bulk)));
  for (round = 0; round < 1000; round++) {
    size_t head;
    queue_drop(&q, 10000);
    head = q.head;
    CHECK(!queue_append(&q, bulk, 10000));
    moves += q.head != head;
  }
  CHECK(moves < 1000 / 20);
  queue_clear(&q);
}

/* ---- events ------------------------------------------------------------- */

static void test_events_come_once_and_are_forgotten(void) {
  hussh_link *link = ready_link();
  hussh_channel *channels[20];
  uint64_t tokens[64];
  size_t i, n, seen = 0;
  for (i = 0; i < 20; i++)
    channels[i] = opened(link, 100, 100);
  for (i = 0; i < 20; i++)
    say(link, "bus", 94, (uint32_t)i, "x");
  link_changed(link);
  link_changed(link);
  CHECK(link->event_count == 21);
  while ((n = hussh_events(link, tokens, 4))) {
    CHECK(n <= 4);
    for (i = 0; i < n; i++) {
      CHECK(tokens[i] && tokens[i] <= 21);
      CHECK(!(seen & (size_t)1 << tokens[i]));
      seen |= (size_t)1 << tokens[i];
    }
  }
  CHECK(seen == (((size_t)1 << 22) - 2) && !(hussh_flush(link) & HUSSH_EVENTS));
  for (i = 0; i < 20; i++)
    say(link, "bus", 94, (uint32_t)i, "x");
  CHECK(link->event_count == 20);
  for (i = 0; i < 20; i += 2) { /* of what is gone nothing is told */
    hussh_channel_free(channels[i]);
    say(link, "bu", 97, (uint32_t)i);
  }
  n = hussh_events(link, tokens, 64);
  CHECK(n == 10);
  while (n--)
    CHECK(tokens[n] % 2); /* the link has token 1, the first channel 2 */
  hussh_link_free(link);
}

/* ---- phases, feeding, dying --------------------------------------------- */

static struct message hello; /* what a server says first: lines, its version, KEXINIT */

static void make_hello(void) {
  static const char *const lists[] = {"curve25519-sha256", "ssh-ed25519", "aes256-ctr",
                                      "aes256-ctr", "hmac-sha2-256", "hmac-sha2-256", "none",
                                      "none", "", ""};
  struct message kexinit = {.len = 0};
  unsigned char number[5] = {20};
  size_t i, padding;
  put(&hello, "a line before\r\nSSH-2.0-Test_1\r\n", 31);
  put(&kexinit, number, 1);
  put(&kexinit, bulk, 16);
  for (i = 0; i < 10; i++) {
    put_u32(number, (uint32_t)strlen(lists[i]));
    put(&kexinit, number, 4);
    put(&kexinit, lists[i], strlen(lists[i]));
  }
  put(&kexinit, bulk, 5);
  padding = 8 - (5 + kexinit.len) % 8 + 8;
  put_u32(number, (uint32_t)(1 + kexinit.len + padding));
  number[4] = (unsigned char)padding;
  put(&hello, number, 5);
  put(&hello, kexinit.bytes, kexinit.len);
  put(&hello, bulk, padding);
}

static void test_feeding_at_once_and_byte_by_byte(void) {
  size_t step, steps[] = {1, 7, 100000}, i, said_by_us = 0;
  for (step = 0; step < 3; step++) {
    hussh_link *link = hussh_link_over_memory();
    hussh_link_info info;
    hussh_pump(link, 1);
    for (i = 0; i < hello.len; i += steps[step]) {
      size_t n = hello.len - i < steps[step] ? hello.len - i : steps[step];
      CHECK(!hussh_feed(link, guarded(hello.bytes + i, n), n));
      hussh_pump(link, 1);
      hussh_link_look(link, &info);
      CHECK(info.received == i + n && !info.dead);
    }
    CHECK(info.phase == HUSSH_KEX && info.rekeying && !strcmp(hussh_link_banner(link), "SSH-2.0-Test_1"));
    CHECK(link->preamble_len && !memcmp(link->preamble, "a line before", 13));
    hussh_link_peer_kexinit(link, &i);
    CHECK(i > 100 && (step == 0 || info.queued == said_by_us));
    said_by_us = info.queued;
    CHECK(hussh_link_disconnect(link, 11, "bye") == HUSSH_E_STATE);
    CHECK(hussh_link_send(link, "\62", 1) == HUSSH_E_STATE && hussh_link_rekey(link) == HUSSH_E_STATE);
    CHECK(!hussh_channel_open(link, "session", 7, NULL, 0, 1));
    CHECK(!hussh_feed(link, NULL, 0));
    hussh_pump(link, 1);
    CHECK(dead_by(link, HUSSH_DEAD_EOF) && hussh_feed(link, "x", 1) == HUSSH_E_DEAD);
    hussh_link_free(link);
  }
}

static void test_killed_and_freed_at_every_byte(void) {
  size_t at;
  for (at = 0; at <= hello.len; at++) {
    hussh_link *link = hussh_link_over_memory();
    size_t queued;
    hussh_pump(link, 1);
    if (at)
      hussh_feed(link, hello.bytes, at);
    if (at % 3)
      hussh_pump(link, 1);
    if (at % 2) {
      hussh_link_kill(link);
      CHECK(dead_by(link, HUSSH_DEAD_KILLED) && !link->in.len && !link->out.len);
      CHECK(hussh_events(link, (uint64_t[1]){0}, 1) == 1);
      queued = link->out.len;
      hussh_pump(link, 1);
      CHECK(link->out.len == queued && hussh_link_send(link, "\62", 1) == HUSSH_E_DEAD);
      hussh_link_kill(link);
      CHECK(count_events(link) == 0);
    }
    hussh_link_free(link);
  }
}

static void test_flipped_bytes_end_the_link_or_do_nothing(void) {
  size_t at;
  for (at = 31; at < hello.len; at++) {
    struct message bad = hello;
    hussh_link *link = hussh_link_over_memory();
    bad.bytes[at] ^= (unsigned char)(1 << at % 8);
    hussh_feed(link, guarded(bad.bytes, bad.len), bad.len);
    hussh_pump(link, 1);
    CHECK(dead_by(link, HUSSH_DEAD_NOT) || dead_by(link, HUSSH_DEAD_PROTOCOL));
    hussh_link_free(link);
  }
}

static void test_endless_greeting(void) {
  hussh_link *link = hussh_link_over_memory();
  int i;
  for (i = 0; i < 100 && !link->dead; i++) {
    hussh_feed(link, "please wait a moment, we are really busy\r\n", 42);
    hussh_feed(link, bulk, 1000);
    hussh_pump(link, 1);
  }
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && i < 70);
  hussh_link_free(link);
}

/* ---- messages ----------------------------------------------------------- */

static void test_authentication_messages(void) {
  hussh_link *link = ready_link();
  unsigned char buffer[100];
  unsigned type, len;
  link->authenticated = 0;
  link->phase = HUSSH_AUTH;
  say(link, "b", 52);
  CHECK(!link->message_count && !link->authenticated); /* not asked for */
  for (type = 53; type < 80; type++)
    for (len = 1; len < 10; len++) {
      said.len = 0;
      put(&said, bulk, len);
      said.bytes[0] = (unsigned char)type;
      say_message(link, &said, len);
      CHECK(hussh_link_message(link, buffer, len - 1) == (ssize_t)len);
      CHECK(hussh_link_message(link, guarded(bulk, len), len) == (ssize_t)len);
      CHECK(hussh_link_message(link, buffer, 100) == HUSSH_E_AGAIN);
    }
  CHECK(hussh_link_send(link, "\117", 1) == 0 && hear(link));
  CHECK(hussh_link_send(link, "\120", 1) == HUSSH_E_STATE && hussh_link_send(link, "", 0) == HUSSH_E_STATE);
  CHECK(hussh_link_send(link, bulk, 1) == HUSSH_E_STATE);
  CHECK(!hussh_link_send(link, "\062x", 2) && hears(link, "br", 50, "x", (size_t)1));
  say(link, "bsb", 51, "password", 0);
  say(link, "b", 52);
  CHECK(link->message_count == 1 && !link->authenticated); /* answered already */
  CHECK(!hussh_link_send(link, "\062x", 2) && hear(link));
  say(link, "b", 52);
  CHECK(link->message_count == 2 && link->authenticated);
  say(link, "bsb", 51, "password", 0);
  CHECK(link->message_count == 2);
  hussh_link_free(link);

  link = ready_link();
  link->authenticated = 0;
  for (len = 0; len < 10 && !link->dead; len++)
    say(link, "bd", 53, bulk, (size_t)32000);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->messages.len < 300000);
  hussh_link_free(link);

  link = ready_link();
  link->authenticated = 0;
  say(link, "bud", 94, 0, bulk, (size_t)3);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL));
  hussh_link_free(link);
}

static void test_messages_in_a_key_exchange_wait(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1000);
  int i;
  set_kex(link, 1);
  CHECK(!hussh_channel_request(channel, "env", 3, 0, NULL, 0));
  CHECK(hussh_channel_write(channel, "abc", 3) == 3);
  hussh_flush(link);
  CHECK(!link->out.len && link->blocked);
  hussh_channel_free(channel); /* nor does this wait; the data is dropped */
  CHECK(!link->out.len && link->channel_live == 1 && hussh_link_disconnect(link, 11, "x") == HUSSH_E_STATE);
  set_kex(link, 0);
  CHECK(hussh_link_disconnect(link, 11, "bye") == 0 || 1);
  link_send_pending(link);
  hussh_link_free(link);

  link = ready_link();
  channel = opened(link, 1000, 1000);
  set_kex(link, 1);
  hussh_channel_request(channel, "env", 3, 0, NULL, 0);
  hussh_channel_write(channel, "abc", 3);
  hussh_flush(link);
  set_kex(link, 0);
  hussh_feed(link, "\0\0\0\14\6\2\0\0\0\0\0\0\0\0\0\0", 16);
  hussh_pump(link, 1);
  CHECK(hears(link, "busb", 98, 1000, "env", 0) && hears(link, "bud", 94, 1000, "abc", (size_t)3));
  CHECK(!hear(link));
  set_kex(link, 1);
  for (i = 0; i < 500000 && !link->dead; i++)
    say(link, "bsb", 80, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->pending.len < 3 << 20);
  hussh_link_free(link);

  /* The close of a channel that is let go may be the message too many. */
  link = ready_link();
  channel = opened(link, 1000, 1000);
  set_kex(link, 1);
  while (link->pending.len <= 1 << 20)
    say(link, "bsb", 80, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_NOT));
  hussh_channel_free(channel);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->channel_live == 0);
  hussh_link_free(link);

  link = ready_link(); /* and so may that of one that was let go while it opened */
  channel = opening(link, 1000);
  hussh_channel_free(channel);
  set_kex(link, 1);
  while (link->pending.len <= 1 << 20)
    say(link, "bsb", 80, "x", 1);
  say(link, "buuuu", 91, 0, 1, 1, 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->channel_live == 0);
  hussh_link_free(link);
}

static void test_stray_transport_messages(void) {
  hussh_link *link = ready_link();
  int type, passed;
  for (type = 8; type < 50; type++) {
    if (type == 20)
      continue;
    CHECK(say(link, "bu", type, 1) == 1 && hears(link, "bu", 3, UINT32_MAX));
  }
  CHECK(say(link, "bu", 3, 1) == 1 && say(link, "b", 6) == 1 && !hear(link));
  set_kex(link, 1);
  for (passed = 0; passed < 1000 && !link->dead; passed++)
    say(link, "bu", 30 + passed % 20, 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && passed < 100);
  hussh_link_free(link);
}

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
  queued = link->out.len;
  CHECK(queued >= OUT_FLOOD && queued < OUT_FLOOD + 100 && link->received < fed);
  hussh_pump(link, 1 << 20);
  CHECK(link->out.len == queued);
  while (link->received < fed) { /* it goes on when the peer reads again */
    uint64_t before = link->received;
    CHECK(hussh_drain(link, bulk, sizeof(bulk)));
    hussh_pump(link, 1 << 20);
    CHECK(link->out.len <= queued && (link->received > before || link->out.len));
  }
  CHECK(dead_by(link, HUSSH_DEAD_NOT));
  hussh_link_free(link);
}

/* ---- trees -------------------------------------------------------------- */

static void tree(hussh_link *links[3], hussh_channel *channels[3], hussh_link *root) {
  int i;
  links[0] = root;
  for (i = 0; i < 3; i++) {
    channels[i] = hussh_channel_open(links[i], "x", 1, NULL, 0, 5000);
    say(links[i], "buuuu", 91, 0, 7, 5000, 5000);
    CHECK(channels[i]->state == HUSSH_CH_OPEN);
    if (i < 2) {
      CHECK((links[i + 1] = hussh_link_over_channel(channels[i])));
      make_ready(links[i + 1]);
    }
  }
}

static void test_freeing_in_every_order(void) {
  static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
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
        say(links[0], "bu", 97, 0);
      for (i = 0; i < 3; i++) {
        int at = orders[order][i], j;
        if (variant & 16)
          hussh_channel_free(channels[at]);
        hussh_link_free(links[at]);
        freed[at] = 1;
        if (!freed[0] && variant & 32)
          hussh_pump(links[0], 1);
        for (j = at + 1; j < 3; j++)
          if (!freed[j] && !(variant & 16) && !freed[j - 1 > at ? j - 1 : j])
            CHECK(links[j]->dead);
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
    say(root, "buu", 93, 0, 100000);
    hussh_channel_write(channels[0]->child ? channels[2] : channels[0], bulk, sizeof(bulk));
    say(links[1], "buu", 93, 0, 100000);
    say(links[2], "buu", 93, 0, 100000);
    flags = hussh_pump(root, 1);
  }
  CHECK(flags & HUSSH_WANT_WRITE && root->out.len <= OUT_HIGH + 40000);
  CHECK(links[1]->out.len <= OUT_HIGH + 40000 && links[2]->out.len <= OUT_HIGH + 40000);
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
  queue_clear(&root->out);
  root->session->socket_state = LIBSSH2_SOCKET_CONNECTED;
  make_ready(root);
  outer = hussh_channel_open(root, "direct-tcpip", 12, bulk, 100, 5000);
  say(root, "buuuu", 91, 0, 7, 1 << 20, 5000);
  if (outer && outer->state == HUSSH_CH_OPEN)
    inner = hussh_link_over_channel(outer);
  if (inner) {
    make_ready(inner);
    channel = hussh_channel_open(inner, "session", 7, NULL, 0, 100000);
  }
  if (channel) {
    say(inner, "buuuu", 91, 0, 7, 1 << 20, 32768);
    hussh_channel_request(channel, "exec", 4, 1, bulk, 20000);
    hussh_channel_write(channel, bulk, sizeof(bulk));
    say(inner, "bud", 94, 0, bulk, (size_t)30000);
    say(inner, "buud", 95, 0, 1, bulk, (size_t)30000);
    hussh_pump(root, 1);
  }
  set_kex(root, 1);
  say(root, "bsb", 80, "x", 1);
  set_kex(root, 0);
  root->authenticated = 0;
  say(root, "bd", 53, bulk, (size_t)30000);
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
  test_queue_keeps_every_byte();
  test_queue_gives_back_what_it_does_not_need();
  test_queue_that_is_full_does_not_copy_at_every_turn();
  test_events_come_once_and_are_forgotten();
  test_feeding_at_once_and_byte_by_byte();
  test_killed_and_freed_at_every_byte();
  test_flipped_bytes_end_the_link_or_do_nothing();
  test_endless_greeting();
  test_authentication_messages();
  test_messages_in_a_key_exchange_wait();
  test_stray_transport_messages();
  test_flood_of_questions();
  test_freeing_in_every_order();
  test_the_end_of_a_link_reaches_those_over_it();
  test_nothing_waits_for_a_peer_that_does_not_read();
  test_budget_and_end_of_a_stream();
  test_every_allocation_may_fail();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
