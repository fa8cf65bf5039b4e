/* test_endpoint.c - endpoint.c over real sockets, with a memory link for the peer.
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

/* A joined endpoint: `near` is the test's end of its socket. */
struct tunnel {
  hussh_link *link;
  hussh_channel *channel;
  hussh_endpoint *endpoint;
  int near, far;
};

static struct tunnel joined(uint32_t ours, uint32_t theirs) {
  struct tunnel t;
  int pair[2];
  CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
  t.near = pair[0];
  t.far = pair[1];
  t.link = ready_link();
  t.channel = opened(t.link, ours, theirs);
  t.endpoint = hussh_endpoint_new(t.link, t.far);
  CHECK(t.endpoint && hussh_endpoints_fd(t.link) >= 0);
  CHECK(!hussh_endpoint_join(t.endpoint, t.channel));
  CHECK(hussh_endpoint_join(t.endpoint, t.channel) == HUSSH_E_STATE);
  hussh_pump(t.link, 1 << 20);
  count_events(t.link);
  return t;
}

static void end(struct tunnel *t) {
  hussh_endpoint_free(t->endpoint);
  hussh_channel_free(t->channel);
  hussh_link_free(t->link);
  close(t->near);
  close(t->far);
}

static hussh_endpoint_info info_of(struct tunnel *t) {
  hussh_endpoint_info info;
  hussh_endpoint_get_info(t->endpoint, &info);
  return info;
}

static void test_both_ways_and_half_closes(void) {
  struct tunnel t = joined(1000, 1000);
  char buffer[100];
  CHECK(write(t.near, "hello", 5) == 5);
  hussh_pump(t.link, 1 << 20);
  CHECK(hears(t.link, "bud", MSG_CHANNEL_DATA, 1000, "hello", (size_t)5) && !hear(t.link));
  say(t.link, "bud", MSG_CHANNEL_DATA, 0, "answer", (size_t)6);
  hussh_pump(t.link, 1 << 20);
  CHECK(read(t.near, buffer, 100) == 6 && !memcmp(buffer, "answer", 6));
  CHECK(count_events(t.link) == 0); /* the owner hears of nothing while it goes on */
  CHECK(!shutdown(t.near, SHUT_WR));
  hussh_pump(t.link, 1 << 20);
  CHECK(hears(t.link, "bu", MSG_CHANNEL_EOF, 1000) && !hear(t.link));
  say(t.link, "bud", MSG_CHANNEL_DATA, 0, "last", (size_t)4); /* the other half still works */
  say(t.link, "bu", MSG_CHANNEL_EOF, 0);
  hussh_pump(t.link, 1 << 20);
  CHECK(read(t.near, buffer, 100) == 4 && read(t.near, buffer, 100) == 0);
  CHECK(hears(t.link, "bu", MSG_CHANNEL_CLOSE, 1000));
  CHECK(info_of(&t).over && !info_of(&t).error && info_of(&t).sent == 5);
  CHECK(info_of(&t).received == 10 && count_events(t.link) >= 1);
  end(&t);
}

static void test_back_pressure(void) {
  struct tunnel t = joined(100000, 10);
  char buffer[100000];
  size_t got = 0;
  ssize_t n;
  CHECK(write(t.near, buffer, 100) == 100);
  hussh_pump(t.link, 1 << 20);
  CHECK(hear(t.link) && received.len == 19 && !hear(t.link)); /* the peer's window, not more */
  CHECK(!t.channel->tx.len && recv(t.far, buffer, 100, MSG_PEEK) == 90);
  say(t.link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 5);
  hussh_pump(t.link, 1 << 20);
  CHECK(hear(t.link) && received.len == 14 && !hear(t.link));
  set_kex(t.link, 1); /* nothing is read while keys are exchanged */
  say(t.link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 50);
  hussh_pump(t.link, 1 << 20);
  CHECK(!hear(t.link) && recv(t.far, buffer, 100, MSG_PEEK) == 85);
  set_kex(t.link, 0);
  hussh_pump(t.link, 1 << 20);
  CHECK(hear(t.link) && received.len == 59);
  /* The other way: what the reader does not take lies in the window, without credit. */
  for (n = 0; n < 3; n++)
    say(t.link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)30000);
  hussh_pump(t.link, 1 << 20);
  while ((n = read(t.near, buffer, sizeof(buffer))) > 0) {
    got += (size_t)n;
    hussh_pump(t.link, 1 << 20);
  }
  CHECK(got == 90000 && !t.channel->rx.len && t.channel->recv_window > 10000);
  end(&t);
}

static void test_ends(void) {
  struct tunnel t = joined(1000, 1000);
  close(t.near); /* the local side has gone: the peer hears that */
  t.near = -1;
  say(t.link, "bud", MSG_CHANNEL_DATA, 0, "x", (size_t)1);
  hussh_pump(t.link, 1 << 20);
  CHECK(info_of(&t).over && count_events(t.link) >= 1);
  end(&t);

  t = joined(1000, 1000); /* CLOSE: what came before still arrives */
  say(t.link, "bud", MSG_CHANNEL_DATA, 0, "x", (size_t)1);
  say(t.link, "bu", MSG_CHANNEL_CLOSE, 0);
  hussh_pump(t.link, 1 << 20);
  CHECK(info_of(&t).over && !info_of(&t).error);
  end(&t);

  t = joined(1000, 1000); /* the link dies */
  hussh_link_kill(t.link);
  CHECK(info_of(&t).over && info_of(&t).error == ECONNABORTED && count_events(t.link) >= 2);
  end(&t);

  t = joined(1000, 1000); /* any order of freeing */
  hussh_channel_free(t.channel);
  CHECK(info_of(&t).over && info_of(&t).error == ECONNABORTED);
  hussh_link_free(t.link);
  hussh_endpoint_free(t.endpoint);
  close(t.near);
  close(t.far);
}

static void test_watching(void) {
  hussh_link *link = ready_link();
  int pair[2];
  hussh_endpoint *endpoint;
  uint64_t token;
  CHECK(hussh_endpoints_fd(link) == -1);
  CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
  endpoint = hussh_endpoint_new(link, pair[1]);
  hussh_pump(link, 1 << 20);
  CHECK(count_events(link) == 0);
  CHECK(write(pair[0], "x", 1) == 1);
  hussh_pump(link, 1 << 20);
  CHECK(hussh_events(link, &token, 1) == 1 && token == hussh_endpoint_token(endpoint));
  hussh_pump(link, 1 << 20);
  CHECK(count_events(link) == 0); /* edge-triggered */
  CHECK(!hussh_endpoint_new(link, -1) && errno == EBADF);
  hussh_endpoints_close(link);
  CHECK(hussh_endpoints_fd(link) == -1);
  hussh_endpoint_free(endpoint);
  hussh_link_free(link);
  close(pair[0]);
  close(pair[1]);
}

static void test_finish(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 100, 3);
  CHECK(hussh_channel_write(channel, "hello", 5) == 5);
  hussh_channel_finish(channel);
  hussh_pump(link, 0);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, "hel", (size_t)3) && !hear(link));
  say(link, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, 9);
  hussh_pump(link, 0);
  CHECK(hears(link, "bud", MSG_CHANNEL_DATA, 1000, "lo", (size_t)2));
  CHECK(hears(link, "bu", MSG_CHANNEL_EOF, 1000) && hears(link, "bu", MSG_CHANNEL_CLOSE, 1000));
  CHECK(link->channel_live == 1);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(link->channel_live == 0);
  hussh_link_free(link);
}

static void test_offers(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel;
  unsigned char message[5000];
  uint32_t port = 7;
  int i;
  say(link, "bsuuu", MSG_CHANNEL_OPEN, "x11", 9, 1, 1); /* nobody takes them */
  CHECK(hears(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 9, 1, "", ""));
  hussh_link_take_offers(link, 1);
  say(link, "bsuuu", MSG_CHANNEL_OPEN, "x11", 9, 50, 40);
  CHECK(!link->tx.len && count_events(link) == 1);
  CHECK(hussh_link_offer(link, NULL, 0) == 20);
  CHECK(hussh_link_offer(link, message, sizeof(message)) == 20);
  CHECK(hussh_link_offer(link, message, sizeof(message)) == HUSSH_E_AGAIN);
  channel = hussh_channel_accept(link, 9, 50, 40, 1000);
  CHECK(hears(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 9, 0, 1000, MAX_PACKET));
  CHECK(channel->state == HUSSH_CH_OPEN && channel->send_packet == 40 && link->waiting == 0);
  hussh_channel_free(channel);
  CHECK(hear(link));
  for (i = 0; i < 256; i++)
    say(link, "bsuuu", MSG_CHANNEL_OPEN, "x11", i, 50, 40);
  CHECK(!link->tx.len);
  say(link, "bsuuu", MSG_CHANNEL_OPEN, "x11", 300, 50, 40); /* bounded */
  CHECK(hears(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 300, 4, "", ""));
  CHECK(!hussh_link_keep_reply(link));
  {
    static const unsigned char ask[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
    static const unsigned char tell[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 0};
    CHECK(!hussh_link_send(link, tell, sizeof(tell)) && link->globals_asked == 0);
    CHECK(!hussh_link_send(link, ask, sizeof(ask)) && link->globals_asked == 1);
  }
  CHECK(hussh_link_kept_reply(link, &port) == HUSSH_E_AGAIN);
  CHECK(hussh_link_keep_reply(link) == HUSSH_E_STATE);
  say(link, "bu", MSG_REQUEST_SUCCESS, 4711);
  CHECK(hussh_link_kept_reply(link, &port) == 1 && port == 4711);
  CHECK(!hussh_link_keep_reply(link) && dead_by(link, HUSSH_DEAD_NOT));
  hussh_link_free(link);
}

int main(void) {
  test_both_ways_and_half_closes();
  test_back_pressure();
  test_ends();
  test_watching();
  test_finish();
  test_offers();
  CHECK(hussh_live() == 0);
  return 0;
}
