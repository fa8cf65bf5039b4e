/* test_link.c - queue.h, link.c, send.c and message_hook.c, without a server.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

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
  for (round = 0; round < 26; round++) /* just below a power of two */
    CHECK(!queue_append(&q, bulk, 40000));
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
    say(link, "bus", MSG_CHANNEL_DATA, (uint32_t)i, "x");
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
    say(link, "bus", MSG_CHANNEL_DATA, (uint32_t)i, "x");
  CHECK(link->event_count == 20);
  for (i = 0; i < 20; i += 2) { /* of what is gone nothing is told */
    hussh_channel_free(channels[i]);
    say(link, "bu", MSG_CHANNEL_CLOSE, (uint32_t)i);
  }
  n = hussh_events(link, tokens, 64);
  CHECK(n == 10);
  while (n--)
    CHECK(tokens[n] % 2); /* the link has token 1, the first channel 2 */
  hussh_link_free(link);
}

/* ---- phases, feeding, dying --------------------------------------------- */

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
      hussh_link_get_info(link, &info);
      CHECK(info.received == i + n && !info.dead);
    }
    CHECK(info.phase == HUSSH_KEX && info.rekeying);
    CHECK(!strcmp(hussh_link_banner(link), "SSH-2.0-Test_1"));
    CHECK(link->preamble_len && !memcmp(link->preamble, "a line before", 13));
    hussh_link_peer_kexinit(link, &i);
    CHECK(i > 100 && (step == 0 || info.queued == said_by_us));
    said_by_us = info.queued;
    CHECK(hussh_link_disconnect(link, 11, "bye") == HUSSH_E_STATE);
    CHECK(hussh_link_send(link, "\62", 1) == HUSSH_E_STATE);
    CHECK(hussh_link_rekey(link) == HUSSH_E_STATE);
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
      CHECK(dead_by(link, HUSSH_DEAD_KILLED) && !link->rx.len && !link->tx.len);
      CHECK(hussh_events(link, (uint64_t[1]){0}, 1) == 1);
      queued = link->tx.len;
      hussh_pump(link, 1);
      CHECK(link->tx.len == queued && hussh_link_send(link, "\62", 1) == HUSSH_E_DEAD);
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
  say(link, "b", MSG_USERAUTH_SUCCESS);
  CHECK(!link->message_count && !link->authenticated); /* not asked for */
  for (type = 53; type < 80; type++)
    for (len = 1; len < 10; len++) {
      composed.len = 0;
      put(&composed, bulk, len);
      composed.bytes[0] = (unsigned char)type;
      say_message(link, &composed, len);
      CHECK(hussh_link_message(link, buffer, len - 1) == (ssize_t)len);
      CHECK(hussh_link_message(link, guarded(bulk, len), len) == (ssize_t)len);
      CHECK(hussh_link_message(link, buffer, 100) == HUSSH_E_AGAIN);
    }
  CHECK(hussh_link_send(link, "\117", 1) == 0 && hear(link));
  CHECK(hussh_link_send(link, "\120", 1) == HUSSH_E_STATE); /* 80, before the login */
  CHECK(hussh_link_send(link, "", 0) == HUSSH_E_STATE);
  CHECK(hussh_link_send(link, bulk, 1) == HUSSH_E_STATE);
  CHECK(!hussh_link_send(link, "\062x", 2) && hears(link, "br", MSG_USERAUTH_REQUEST, "x",
      (size_t)1));
  say(link, "bsb", MSG_USERAUTH_FAILURE, "password", 0);
  say(link, "b", MSG_USERAUTH_SUCCESS);
  CHECK(link->message_count == 1 && !link->authenticated); /* answered already */
  CHECK(!hussh_link_send(link, "\062x", 2) && hear(link));
  say(link, "b", MSG_USERAUTH_SUCCESS);
  CHECK(link->message_count == 2 && link->authenticated);
  say(link, "bsb", MSG_USERAUTH_FAILURE, "password", 0);
  CHECK(link->message_count == 2);
  hussh_link_free(link);

  link = ready_link(); /* two requests at once, the second of which is told to go on */
  link->authenticated = 0;
  link->phase = HUSSH_AUTH;
  CHECK(!hussh_link_send(link, "\062x", 2) && !hussh_link_send(link, "\062x", 2));
  say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
  say(link, "bss", MSG_USERAUTH_60, "ssh-ed25519", "x");
  CHECK(!hussh_link_send(link, "\062x", 2) && link->auth_asked == 1);
  say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
  say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0); /* not asked for */
  say(link, "b", MSG_USERAUTH_SUCCESS);
  CHECK(link->message_count == 4 && !link->authenticated && !link->auth_asked);
  CHECK(!hussh_link_send(link, "\062x", 2) && !hussh_link_send(link, "\062x", 2));
  say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
  say(link, "b", MSG_USERAUTH_SUCCESS);
  say(link, "b", MSG_USERAUTH_SUCCESS);
  CHECK(link->message_count == 6 && link->authenticated);
  hussh_link_free(link);

  link = ready_link(); /* three queries at once: 60 is the final answer of each */
  link->authenticated = 0;
  link->phase = HUSSH_AUTH;
  {
    static const char query[] = "\062\0\0\0\1u\0\0\0\1s\0\0\0\11publickey\0";
    static const char signed_one[] = "\062\0\0\0\1u\0\0\0\1s\0\0\0\11publickey\1";
    int i;
    for (i = 0; i < 3; i++)
      CHECK(!hussh_link_send(link, query, sizeof(query) - 1));
    CHECK(!hussh_link_send(link, query, 8) && link->auth_asked == 4); /* cut short: none */
    CHECK(link->auth_queries == 7);
    say(link, "bss", MSG_USERAUTH_60, "ssh-ed25519", "x");
    CHECK(!hussh_link_send(link, signed_one, sizeof(signed_one) - 1) && link->auth_asked == 4);
    say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
    say(link, "bss", MSG_USERAUTH_60, "ssh-ed25519", "x");
    CHECK(link->auth_asked == 2 && !link->auth_queries && !link->auth_more);
    say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
    say(link, "bsb", MSG_USERAUTH_FAILURE, "publickey", 0);
    say(link, "b", MSG_USERAUTH_SUCCESS);
    CHECK(!link->auth_asked && !link->authenticated);
  }
  hussh_link_free(link);

  link = ready_link();
  link->authenticated = 0;
  for (len = 0; len < 100; len++)
    say(link, "bd", MSG_USERAUTH_BANNER, bulk, (size_t)32000);
  CHECK(!link->dead && link->messages.len <= (size_t)3 << 19); /* the rest is dropped */
  for (len = 0; len < 100 && !link->dead; len++)
    say(link, "bd", MSG_USERAUTH_60, bulk, (size_t)32000);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->messages.len <= (size_t)2 << 20);
  hussh_link_free(link);

  link = ready_link();
  link->authenticated = 0;
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)3);
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
  CHECK(!link->tx.len && link->blocked);
  hussh_channel_free(channel); /* nor does this wait; the data is dropped */
  CHECK(!link->tx.len && link->channel_live == 1);
  CHECK(hussh_link_disconnect(link, 11, "bye") == HUSSH_E_STATE);
  set_kex(link, 0);
  link_send_pending(link);
  CHECK(hears(link, "busb", MSG_CHANNEL_REQUEST, 1000, "env", 0) && hears(link, "bu",
      MSG_CHANNEL_CLOSE, 1000) && !hear(link));
  CHECK(!hussh_link_disconnect(link, 11, "bye") && hears(link, "buss", MSG_DISCONNECT, 11, "bye",
      ""));
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
  CHECK(hears(link, "busb", MSG_CHANNEL_REQUEST, 1000, "env", 0) && hears(link, "bud",
      MSG_CHANNEL_DATA, 1000, "abc", (size_t)3));
  CHECK(!hear(link));
  set_kex(link, 1);
  for (i = 0; i < 500000 && !link->dead; i++)
    say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->pending.len < 3 << 20);
  hussh_link_free(link);

  /* What we say ourselves is kept beyond that: only answers may be too many. */
  link = ready_link();
  channel = opened(link, 1000, 1000);
  set_kex(link, 1);
  while (link->pending.len <= 1 << 20)
    say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_NOT));
  CHECK(!hussh_channel_request(channel, "env", 3, 0, NULL, 0));
  hussh_channel_free(channel);
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && link->channel_live == 1);
  say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->channel_live == 0);
  hussh_link_free(link);

  link = ready_link(); /* so is the close of a channel that was let go while it opened */
  channel = opening(link, 1000);
  hussh_channel_free(channel);
  set_kex(link, 1);
  while (link->pending.len <= 1 << 20)
    say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 1, 1, 1);
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && link->channel_live == 1);
  say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && link->channel_live == 0);
  hussh_link_free(link);

  link = ready_link(); /* and the count begins anew with each key exchange */
  set_kex(link, 1);
  while (link->pending.len <= 1 << 19)
    say(link, "bsb", MSG_GLOBAL_REQUEST, "x", 1);
  set_kex(link, 0);
  link_send_pending(link);
  CHECK(!link->pending.len && !link->pending_answers);
  hussh_link_free(link);
}

static void test_stray_transport_messages(void) {
  hussh_link *link = ready_link();
  int type, passed;
  for (type = 8; type < 50; type++) {
    if (type == 20)
      continue;
    CHECK(say(link, "bu", type, 1) == 1 && hears(link, "bu", MSG_UNIMPLEMENTED, UINT32_MAX));
  }
  CHECK(say(link, "bu", MSG_UNIMPLEMENTED, 1) == 1 && say(link, "b", MSG_SERVICE_ACCEPT) == 1 &&
      !hear(link));
  set_kex(link, 1);
  for (passed = 0; passed < 1000 && !link->dead; passed++)
    say(link, "bu", 30 + passed % 20, 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && passed < 100);
  hussh_link_free(link);
}

/* A failed re-exchange gives no text of its own, and what an EAGAIN left behind is none. */
static void test_text_of_an_eagain_is_no_reason(void) {
  static const unsigned char garbage[16] = {0xff, 0xff, 0xff, 0xff};
  hussh_link *link = ready_link();
  hussh_link_info info;
  CHECK(!hussh_link_rekey(link));
  _libssh2_error(link->session, LIBSSH2_ERROR_EAGAIN, "Would block");
  CHECK(!hussh_feed(link, garbage, sizeof(garbage)));
  hussh_pump(link, 1);
  hussh_link_get_info(link, &info);
  CHECK(info.dead == HUSSH_DEAD_PROTOCOL && !strstr(info.text, "Would block"));
  hussh_link_free(link);
}

int main(void) {
  make_hello();
  test_text_of_an_eagain_is_no_reason();
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
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
