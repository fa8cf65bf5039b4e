/* test_channel.c - channel.c and channel_recv.c, without a server.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_command.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

static void test_open_and_refuse(void) {
  hussh_link *link = ready_link();
  hussh_channel *one = opening(link, 1000), *two = opening(link, 1000), *three = opening(link, 5);
  hussh_channel_info info;
  CHECK(one->local_id == 0 && two->local_id == 1 && link->waiting == 3);
  CHECK(count_events(link) == 0);
  say(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 1, 2, "no\033[2J\nway", "en");
  hussh_channel_get_info(two, &info);
  CHECK(info.state == HUSSH_CH_REFUSED && info.reason == 2 && !strcmp(info.text, "no [2J way"));
  say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 77, 100, 5);
  CHECK(one->state == HUSSH_CH_OPEN && one->remote_id == 77 && one->send_packet == 5);
  CHECK(link->waiting == 1 && count_events(link) == 2);
  say(link, "buu", MSG_CHANNEL_OPEN_FAILURE, 2, UINT32_MAX); /* without its texts */
  CHECK(three->state == HUSSH_CH_REFUSED && three->reason > 0 && link->waiting == 0);
  hussh_channel_free(two);
  hussh_channel_free(three);
  CHECK(link->channel_live == 1 && !link->tx.len);
  two = opening(link, 1); /* numbers are used again, lowest first */
  CHECK(two->local_id == 1 && dead_by(link, HUSSH_DEAD_NOT));
  hussh_channel_free(two); /* abandoned while it opens: closed as soon as that is known */
  CHECK(!link->tx.len && link->channel_live == 2);
  say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 1, 78, 100, 5);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 78) && count_events(link) == 0);
  say(link, "buuu", MSG_CHANNEL_DATA, 1, 1, 0); /* one more late byte would be beyond its window */
  say(link, "bu", MSG_CHANNEL_CLOSE, 1);
  CHECK(link->channel_live == 1 && link->waiting == 0 && !link->tx.len);
  hussh_link_free(link);
}

/* As if keys were exchanged, and the login begun. */
static hussh_link *login_link(void) {
  hussh_link *link = ready_link();
  link->authenticated = 0;
  link->phase = HUSSH_AUTH;
  link->session->state = 0;
  return link;
}

static void test_opens_before_the_login_is_done(void) {
  static const unsigned char ask[] = {MSG_USERAUTH_REQUEST, 0};
  int answer;
  for (answer = 0; answer < 7; answer++) {
    hussh_link *link = login_link();
    hussh_channel *one, *two;
    uint32_t seqno;
    CHECK(!hussh_channel_open(link, "session", 7, NULL, 0, 9)); /* nothing was asked yet */
    CHECK(!hussh_link_send(link, ask, sizeof(ask)) && hear(link));
    one = opening(link, 1000);
    seqno = link->session->local.seqno;
    two = opening(link, 1000);
    CHECK(link->waiting == 2);
    say(link, "bss", MSG_USERAUTH_BANNER, "hello", "");
    CHECK(one->state == HUSSH_CH_OPENING);
    if (answer == 0) { /* granted, but the server has no idea of one of them */
      say(link, "b", MSG_USERAUTH_SUCCESS);
      link->phase = HUSSH_OPEN;
      say(link, "bu", MSG_UNIMPLEMENTED, seqno);
      CHECK(two->state == HUSSH_CH_UNHEARD && one->state == HUSSH_CH_OPENING);
      say(link, "bu", MSG_UNIMPLEMENTED, seqno + 5); /* whatever that means */
      say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 77, 100, 5);
      CHECK(one->state == HUSSH_CH_OPEN && link->waiting == 0);
    } else if (answer == 5) { /* granted, but the server does not look at what came too early */
      static const unsigned char ping[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
      hussh_channel *late;
      say(link, "b", MSG_USERAUTH_SUCCESS);
      link->phase = HUSSH_OPEN;
      late = opening(link, 1000);
      two->is_session = 0; /* a connection, which may take its time */
      CHECK(!hussh_link_send(link, ping, sizeof(ping)));
      say(link, "b", MSG_REQUEST_FAILURE);
      CHECK(one->state == HUSSH_CH_UNHEARD && two->state == late->state);
      CHECK(late->state == HUSSH_CH_OPENING && link->waiting == 2);
      say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 77, 100, 5); /* it did, but later */
      CHECK(one->state == HUSSH_CH_OPEN && link->waiting == 2);
    } else if (answer == 6) { /* the same, when the owner has given up */
      static const unsigned char ping[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
      say(link, "b", MSG_USERAUTH_SUCCESS);
      link->phase = HUSSH_OPEN;
      CHECK(!hussh_link_send(link, ping, sizeof(ping)));
      say(link, "b", MSG_REQUEST_FAILURE);
      while (hear(link))
        continue;
      hussh_channel_free(one);
      hussh_channel_free(two);
      CHECK(link->channel_live == 2 && hussh_link_lingering(link) == 0);
      CHECK(opening(link, 1000)->local_id == 2); /* no late answer is taken for another one's */
      say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 77, 100, 5);
      CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 77) && !hear(link));
      say(link, "bu", MSG_CHANNEL_CLOSE, 0);
      say(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 1, 2, "no", "");
      CHECK(link->channel_live == 1 && link->waiting == 1);
    } else if (answer == 4) { /* another request is still to be answered */
      CHECK(!hussh_link_send(link, ask, sizeof(ask)));
      say(link, "bsb", MSG_USERAUTH_FAILURE, "password", 0);
      CHECK(one->state == HUSSH_CH_OPENING);
    } else { /* refused, accepted in part, or the server asks something */
      int kind = answer == 3 ? MSG_USERAUTH_60 : MSG_USERAUTH_FAILURE;
      hussh_channel_free(two); /* its owner has given up */
      say(link, "bsb", kind, "password", answer == 2);
      CHECK(one->state == HUSSH_CH_UNHEARD && link->waiting == 0 && link->channel_live == 1);
      CHECK(count_events(link) > 0 && dead_by(link, HUSSH_DEAD_NOT));
      say(link, "bu", MSG_UNIMPLEMENTED, seqno - 1);
      say(link, "bu", MSG_UNIMPLEMENTED, seqno);
      hussh_channel_free(one);
      CHECK(link->channel_live == 0 && dead_by(link, HUSSH_DEAD_NOT));
    }
    hussh_link_free(link);
  }
}

static void test_widen(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  hussh_channel_widen(channel, 1000);
  CHECK(!link->tx.len);
  hussh_channel_widen(channel, 5000);
  CHECK(hears(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 1000, 4000));
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)5000);
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && channel->rx.len == 5000);
  hussh_link_free(link);
}

static void test_messages_that_do_not_fit_the_state(void) {
  static const uint32_t late[] = {93, 94, 96, 97, 98, 99};
  size_t i;
  for (i = 0; i < 2 * sizeof(late) / sizeof(*late); i++) {
    hussh_link *link = ready_link();
    hussh_channel *channel = opening(link, 100);
    if (i % 2)
      say(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 0, 1, "no", "");
    say(link, "bu", (int)late[i / 2], 0);
    CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && channel->state == HUSSH_CH_DEAD);
    CHECK(!link->tx.len && channel->rx.len == 0);
    hussh_link_free(link);
  }
  {
    hussh_link *link = ready_link();
    opened(link, 100, 100);
    say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 1, 1, 1);
    CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL));
    hussh_link_free(link);
  }
}

static void test_receive_window(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  unsigned char buffer[2000];
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)499);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)101);
  CHECK(count_events(link) == 1 && channel->recv_window == 400);
  CHECK(hussh_channel_read(channel, 0, buffer, 2000) == 499 && !link->tx.len);
  CHECK(hussh_channel_read(channel, 1, buffer, 1) == 1); /* half of it is taken */
  CHECK(hears(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 1000, 500) && channel->recv_window == 900);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 7, bulk,
      (size_t)400); /* of a stream that nobody reads */
  CHECK(!link->tx.len && channel->recv_window == 500 && channel->consumed == 400);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)500);
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && channel->recv_window == 0);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)0);
  CHECK(dead_by(link, HUSSH_DEAD_NOT));
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL) && channel->rx.len == 500);
  CHECK(hussh_channel_read(channel, 0, buffer, 2000) == 500); /* what had come stays */
  hussh_link_free(link);

  link = ready_link(); /* no credit once the peer will not send any more */
  channel = opened(link, 1000, 0);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)900);
  say(link, "bu", MSG_CHANNEL_EOF, 0);
  CHECK(hussh_channel_read(channel, 0, buffer, 2000) == 900 && !link->tx.len);
  hussh_link_free(link);
}

static void test_order(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1000);
  uint32_t pairs[4];
  channel->recv_window = 1000;
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)3);
  CHECK(!hussh_channel_order(channel, pairs, sizeof(pairs))); /* nobody asked for it */
  hussh_channel_keep_order(channel);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)5);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)0);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)6);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)7);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)8);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)9);
  CHECK(hussh_channel_order(channel, pairs, 8) == sizeof(pairs)); /* too little room */
  CHECK(hussh_channel_order(channel, pairs, sizeof(pairs)) == sizeof(pairs));
  CHECK(pairs[0] == 0 && pairs[1] == 11 && pairs[2] == 15 && pairs[3] == 9);
  CHECK(!hussh_channel_order(channel, pairs, sizeof(pairs)));
  CHECK(!channel_note_order(channel, 0, UINT32_MAX - 1) && !channel_note_order(channel, 0, 2));
  CHECK(hussh_channel_order(channel, pairs, sizeof(pairs)) == sizeof(pairs));
  CHECK(pairs[0] == UINT32_MAX - 1 && pairs[2] == 2 && !pairs[1] && !pairs[3]);
  queue_clear(&channel->order);
  fail_in = 0;
  CHECK(channel_note_order(channel, 1, 1));
  fail_in = -1;
  hussh_channel_free(channel);
  hussh_link_free(link);
}

static void test_spare(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = hussh_channel_spare(link, 1000), *refused = hussh_channel_spare(link, 9);
  hussh_channel_info info;
  CHECK(channel && refused && channel->is_session && link->waiting == 2);
  CHECK(hussh_channel_take(refused) == HUSSH_E_STATE); /* not yet open: from now on it tells */
  say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, channel->local_id, 77, 100, 5);
  CHECK(count_events(link) == 0);
  say(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, refused->local_id, 4, "no", "en");
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_take(channel) == 0 && count_events(link) == 0);
  hussh_channel_get_info(channel, &info);
  CHECK(info.state == HUSSH_CH_OPEN);
  say(link, "bu", MSG_CHANNEL_CLOSE, channel->local_id);
  CHECK(count_events(link) == 1 && hussh_channel_take(channel) == HUSSH_E_STATE);
  hussh_channel_free(channel);
  hussh_channel_free(refused);
  channel = hussh_channel_spare(link, 1000);
  hussh_link_kill(link);
  CHECK(hussh_channel_take(channel) == HUSSH_E_DEAD && !hussh_channel_spare(link, 1000));
  hussh_channel_free(channel);
  hussh_link_free(link);
}

static void test_await_message(void) {
  static const unsigned char head[] = {0, 0, 0, 10}, huge[] = {0, 0, 1, 45};
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  unsigned char buffer[100];
  hussh_channel_await_message(channel, 0, 300);
  count_events(link);
  say(link, "bud", MSG_CHANNEL_DATA, 0, head, (size_t)3);
  say(link, "bud", MSG_CHANNEL_DATA, 0, head + 3, (size_t)1);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)9);
  CHECK(count_events(link) == 0);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk,
      (size_t)1); /* stderr is heard of at once */
  CHECK(count_events(link) == 1);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 6) == 6); /* and with that it is over */
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 100) == 9);
  hussh_channel_await_message(channel, 7, 300); /* the rest of one */
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)6);
  CHECK(count_events(link) == 0);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 100) == 7);
  hussh_channel_await_message(channel, 0, 300);
  say(link, "bud", MSG_CHANNEL_DATA, 0, huge,
      (size_t)4); /* 301 bytes: the owner shall see that now */
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 100) == 4);
  hussh_channel_await_message(channel, 501, 10000); /* more than half of the window */
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  CHECK(count_events(link) == 1);
  hussh_channel_await_message(channel, 1, 300); /* what is there already counts */
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 100) == 1);
  hussh_channel_await_message(channel, 0, 300);
  say(link, "bu", MSG_CHANNEL_EOF, 0); /* the end, too, is heard of at once */
  CHECK(count_events(link) == 1);
  hussh_link_free(link);
}

static void test_send_window(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 40000);
  CHECK(hussh_channel_write(channel, bulk, 50000) == 50000);
  hussh_flush(link);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, bulk, (size_t)MAX_PACKET));
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, bulk, (size_t)40000 - MAX_PACKET));
  CHECK(!hear(link) && channel->send_window == 0 && channel->tx.len == 10000);
  CHECK(!hussh_channel_eof(channel) && hussh_channel_write(channel, bulk, 1) == HUSSH_E_STATE);
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 9999);
  hussh_flush(link);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, bulk, (size_t)9999) && !hear(link));
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, UINT32_MAX);
  hussh_flush(link);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, bulk, (size_t)1));
  CHECK(hears(link, "bu", MSG_CHANNEL_EOF, 1000) && !hear(link)); /* after the last byte,
      and once */
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 1);
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && channel->send_window == UINT32_MAX);
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 1);
  CHECK(dead_by(link, HUSSH_DEAD_PROTOCOL));
  CHECK(hussh_channel_write(channel, bulk, 1) == HUSSH_E_DEAD);
  hussh_link_free(link);
}

static void test_writer_that_is_too_fast(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  ssize_t n, all = 0;
  CHECK(count_events(link) == 1);
  while ((n = hussh_channel_write(channel, bulk, sizeof(bulk))) > 0)
    all += n;
  CHECK(n == 0 && all == 1 << 20 && count_events(link) == 0);
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 100);
  hussh_flush(link);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, bulk, (size_t)100) && count_events(link) == 0);
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0,
      (768 << 10) - 101); /* a quarter and a byte: still no room */
  hussh_flush(link);
  while (hear(link))
    continue;
  CHECK(channel->tx.len == (256 << 10) + 1 && count_events(link) == 0);
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 1);
  hussh_flush(link);
  CHECK(hear(link) && count_events(link) == 1);
  hussh_channel_free(channel); /* what is queued is dropped */
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000) && !hear(link));
  hussh_link_free(link);
}

static void test_bulk(void) {
  static unsigned char many[100000];
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1 << 20);
  size_t i;
  for (i = 0; i < sizeof(many); i++)
    many[i] = (unsigned char)(i * 7 + i / 256);
  /* A head waits for what follows; then packets are full, and the rest waits. */
  CHECK(hussh_channel_write(channel, many, 30) == 30 && !hear(link));
  CHECK(hussh_channel_write(channel, many, 3 * MAX_PACKET) == 3 * MAX_PACKET);
  CHECK(hear(link));
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, many + MAX_PACKET - 30, (size_t)MAX_PACKET));
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, many + 2 * MAX_PACKET - 30, (size_t)MAX_PACKET));
  CHECK(!hear(link) && channel->tx.len == 30);
  hussh_flush(link);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, many + 3 * MAX_PACKET - 30, (size_t)30) &&
      !hear(link));
  CHECK(channel->send_window == (1 << 20) - 3 * MAX_PACKET - 30);
  hussh_link_free(link);
  /* The window ends in the middle. */
  link = ready_link();
  channel = opened(link, 1000, 40000);
  CHECK(hussh_channel_write(channel, many, 100000) == 100000);
  CHECK(channel->send_window == 0 && channel->tx.len == 60000);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, many, (size_t)MAX_PACKET));
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, many + MAX_PACKET, (size_t)40000 - MAX_PACKET));
  CHECK(!hear(link));
  hussh_link_free(link);
}

/* Every message cut at every length, and with every length field blown up. */
static void test_cut_messages(void) {
  static const struct {
    int type, fatal;
    const char *rest;
  } kinds[] = {{80, 0, "sb"}, {90, 0, "suuu"}, {91, 0, "uuuu"}, {92, 0, "uuss"}, {93, 0, "uu"},
               {94, 0, "us"}, {95, 0, "uus"},  {98, 0, "usbs"}, {99, 0, "u"},    {101, 0, "us"}};
  size_t kind, cut, at;
  for (kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++) {
    struct message whole;
    const char *field = kinds[kind].rest;
    unsigned char number[4] = {0, 0, 0, 0};
    whole.len = 0;
    number[0] = (unsigned char)kinds[kind].type;
    put(&whole, number, 1);
    number[0] = 0;
    for (; *field; field++)
      if (*field == 's') {
        put(&whole, "\0\0\0\13", 4);
        put(&whole, kinds[kind].type == 98 ? "exit-signal" : "some-string", 11);
      } else {
        put(&whole, number, *field == 'b' ? 1 : 4);
      }
    for (cut = 1; cut <= whole.len; cut++) {
      hussh_link *link = ready_link();
      hussh_channel *channel = kinds[kind].type == 91 || kinds[kind].type == 92
                                   ? opening(link, 100)
                                   : opened(link, 100, 100);
      CHECK(say_message(link, &whole, cut) == 1);
      CHECK(dead_by(link, HUSSH_DEAD_NOT) || dead_by(link, HUSSH_DEAD_PROTOCOL));
      CHECK(channel->rx.len <= 100);
      hussh_link_free(link);
    }
    for (at = 1; at + 4 <= whole.len; at++) {
      hussh_link *link = ready_link();
      struct message blown = whole;
      opened(link, 100, 100);
      put_u32(blown.bytes + at, at % 2 ? UINT32_MAX : 0x80000000u);
      CHECK(say_message(link, &blown, blown.len) == 1);
      hussh_link_free(link);
    }
  }
}

/* A peer without any sense, on channels in every state. */
static void test_noise(void) {
  unsigned round, i;
  for (round = 0; round < 400; round++) {
    hussh_link *link = ready_link(), *inner;
    hussh_channel *channels[6];
    for (i = 0; i < 6; i++)
      channels[i] = i < 2 ? opening(link, 1000) : opened(link, 1000, 1000);
    inner = hussh_link_over_channel(channels[5]);
    CHECK(inner);
    hussh_channel_free(channels[1]);
    hussh_channel_free(channels[2]);
    for (i = 0; i < 60 && !link->dead; i++) {
      unsigned n;
      composed.len = 0;
      put(&composed, "\0", 1);
      composed.bytes[0] = (unsigned char)(random_number() % 8 ? 90 + random_number() % 12 : 80);
      for (n = random_number() % 6; n; n--) {
        unsigned char number[4];
        uint32_t value = random_number();
        put_u32(number, value % 5 ? value % 7 : value * 2);
        put(&composed, number, 4 - (value % 40 == 0));
      }
      say_message(link, &composed, composed.len);
      if (random_number() % 4 == 0)
        hussh_pump(link, 1);
      if (random_number() % 20 == 0 && channels[3]) {
        hussh_channel_free(channels[3]);
        channels[3] = NULL;
      }
      queue_clear(&link->tx);
    }
    hussh_pump(link, 1);
    if (round % 2)
      hussh_link_free(inner);
    hussh_link_free(link);
    if (!(round % 2))
      hussh_link_free(inner);
  }
  CHECK(hussh_live() == 0);
}

/* What the peer gets of a link that is carried: packets in channel data. */
static void test_many_channels(void) {
  enum { COUNT = 3000 };
  static hussh_channel *channels[COUNT];
  hussh_link *link = ready_link();
  int i, round;
  for (round = 0; round < 2; round++) {
    for (i = 0; i < COUNT; i++)
      channels[i] = opened(link, 100, 100);
    CHECK(link->channel_slots == 4096 && link->channel_live == COUNT && link->objects == COUNT + 1);
    CHECK(link->event_count == COUNT && link->event_size >= link->objects);
    for (i = 0; i < COUNT; i++) {
      CHECK(channels[i]->local_id == (uint32_t)i);
      hussh_channel_free(channels[i]);
      say(link, "bu", MSG_CHANNEL_CLOSE, (uint32_t)i);
    }
    CHECK(link->channel_live == 0 && link->objects == 1 && count_events(link) == 0);
    queue_clear(&link->tx);
  }
  hussh_link_free(link);
}

int main(void) {
  test_open_and_refuse();
  test_opens_before_the_login_is_done();
  test_widen();
  test_messages_that_do_not_fit_the_state();
  test_receive_window();
  test_order();
  test_await_message();
  test_spare();
  test_send_window();
  test_writer_that_is_too_fast();
  test_bulk();
  test_cut_messages();
  test_noise();
  test_many_channels();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
