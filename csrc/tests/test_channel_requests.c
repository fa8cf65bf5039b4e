/* test_channel_requests.c - what either side asks of a channel, signals above all, without a server.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_command.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

static void test_requests(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1000);
  hussh_channel_info info;
  int i;
  CHECK(!hussh_channel_request(channel, "exec", 4, 1, "\0\0\0\1x", 5));
  CHECK(hears(link, "busbs", MSG_CHANNEL_REQUEST, 1000, "exec", 1, "x") && link->waiting == 2);
  CHECK(hussh_channel_request(channel, "exec", 4, 1, bulk, HUSSH_REQUEST_MAX + 1) ==
        HUSSH_E_STATE);
  CHECK(hussh_channel_request(channel, "exec", 65, 1, bulk, 1) == HUSSH_E_STATE);
  CHECK(!hussh_channel_request(channel, "exec", 4, 0, bulk, 32768) && hear(link));
  CHECK(dead_by(link, HUSSH_DEAD_NOT) && link->waiting == 2);
  say(link, "bu", MSG_CHANNEL_SUCCESS, 0);
  CHECK(link->waiting == 1); /* the command runs */
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);   /* to nothing that was asked */
  hussh_channel_get_info(channel, &info);
  CHECK(info.replies == 1 && info.failures == 0 && link->waiting == 1);
  for (i = 1; i < 40; i++) {
    CHECK(!hussh_channel_request(channel, "env", 3, 1, NULL, 0) && hear(link));
    say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  }
  hussh_channel_get_info(channel, &info);
  CHECK(info.replies == 40 && info.failures == 0x7ffffffe);
  say(link, "busbu", MSG_CHANNEL_REQUEST, 0, "exit-status", 1, 42);
  CHECK(hears(link, "bu", MSG_CHANNEL_FAILURE, 1000)); /* nobody may ask for an answer to this,
      but it is his */
  say(link, "busbsbss", MSG_CHANNEL_REQUEST, 0, "exit-signal", 0, "KILL\n", 1, "", "");
  hussh_channel_get_info(channel, &info);
  CHECK(info.exit_known == 2 && info.core == 1 && !strcmp(info.text, "KILL "));
  CHECK(!hussh_channel_request(channel, "env", 3, 1, NULL, 0) && hear(link) && link->waiting == 2);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000) && link->waiting == 0);
  CHECK(hussh_channel_request(channel, "env", 3, 1, NULL, 0) == HUSSH_E_STATE);
  CHECK(hussh_channel_close(channel) == HUSSH_E_STATE);
  hussh_channel_free(channel);
  CHECK(link->channel_live == 0 && !hear(link));
  hussh_link_free(link);
}

/* The peer is asked to send a signal, and hears nothing else from us. */
static int hears_signal(hussh_link *link, const char *name, int want_reply) {
  return hears(link, "busbs", MSG_CHANNEL_REQUEST, 1000, "signal", want_reply, name) && !hear(link);
}

static void test_signals(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1000);
  CHECK(hussh_channel_signal(channel, bulk, 64, 1) == HUSSH_E_STATE); /* too long a name */
  CHECK(hussh_channel_signal(channel, "A\0B", 3, 1) == HUSSH_E_STATE && !hear(link));
  CHECK(!hussh_channel_request(channel, "exec", 4, 1, NULL, 0) && hear(link));
  CHECK(!hussh_channel_signal(channel, "TERM", 4, 0)); /* this peer does not answer */
  CHECK(hears_signal(link, "TERM", 0));
  CHECK(!hussh_channel_signal(channel, "TERM", 4, 1) && hears_signal(link, "TERM", 1));
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1) && hears_signal(link, "KILL", 1));
  say(link, "bu", MSG_CHANNEL_FAILURE, 0); /* to exec */
  say(link, "bu", MSG_CHANNEL_FAILURE, 0); /* to TERM, which is no longer wanted */
  CHECK(!hear(link));
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  CHECK(hears_signal(link, "KILL", 1));
  CHECK(hussh_channel_write(channel, bulk, 2000) == 2000);
  hussh_channel_free(channel); /* it lives on until the signal has come home */
  hussh_flush(link);
  CHECK(!hear(link) && hussh_link_lingering(link) == 1);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)3);
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  CHECK(hears_signal(link, "KILL", 1));
  say(link, "bu", MSG_CHANNEL_SUCCESS, 0);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000) && !hear(link));
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(link->channel_live == 0 && link->waiting == 0 && !link->signals_refused && !hear(link));
  hussh_link_free(link);
}

static void test_signals_that_are_not_repeated(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 1000);
  int tries;
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)3); /* it has begun */
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1) && hears_signal(link, "KILL", 0));
  hussh_channel_free(channel);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000) && hussh_link_lingering(link) == 1);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(link->channel_live == 0 && hussh_link_lingering(link) == 0);

  channel = opened(link, 1000, 1000); /* it ends by itself meanwhile */
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1) && hears_signal(link, "KILL", 1));
  say(link, "busbu", MSG_CHANNEL_REQUEST, 0, "exit-status", 0, 42);
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  CHECK(!hear(link) && !link->signals_refused);
  hussh_channel_free(channel);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000));
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);

  channel = opened(link, 1000, 1000); /* the peer closes instead of an answer */
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1) && hears_signal(link, "KILL", 1));
  hussh_channel_free(channel);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000) && link->channel_live == 0);

  channel = opened(link, 1000, 1000); /* a peer that sends no signals is asked in vain once */
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1));
  hussh_channel_free(channel);
  for (tries = 0; hears_signal(link, "KILL", 1); tries++)
    say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  CHECK(tries == 100 && received.bytes[0] == MSG_CHANNEL_CLOSE && !hear(link));
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(link->channel_live == 0 && link->signals_refused);
  channel = opened(link, 1000, 1000);
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1) && hears_signal(link, "KILL", 0));
  hussh_channel_free(channel);
  CHECK(hears(link, "bu", MSG_CHANNEL_CLOSE, 1000));
  hussh_link_free(link);

  link = ready_link(); /* the link ends meanwhile */
  channel = opened(link, 1000, 1000);
  CHECK(!hussh_channel_signal(channel, "KILL", 4, 1));
  hussh_channel_free(channel);
  hussh_link_kill(link);
  CHECK(link->channel_live == 0);
  hussh_link_free(link);
}

static void test_what_a_peer_may_ask(void) {
  hussh_link *link = ready_link();
  say(link, "bsb", MSG_GLOBAL_REQUEST, "hostkeys-00@openssh.com", 0);
  say(link, "bsb", MSG_GLOBAL_REQUEST, "keepalive@openssh.com", 1);
  CHECK(hears(link, "b", MSG_REQUEST_FAILURE) && !hear(link));
  say(link, "bsuuu", MSG_CHANNEL_OPEN, "x11", 9, 1000, 1000);
  CHECK(hears(link, "buuss", MSG_CHANNEL_OPEN_FAILURE, 9, 1, "", "") && !hear(link));
  say(link, "bud", MSG_CHANNEL_DATA, 12345, bulk, (size_t)3); /* no such channel */
  say(link, "b", MSG_REQUEST_SUCCESS);
  CHECK(!hear(link) && dead_by(link, HUSSH_DEAD_NOT) && link->global_replies == 0);
  say(link, "b", 101);
  CHECK(hears(link, "bu", MSG_UNIMPLEMENTED, UINT32_MAX) && count_events(link) == 0);
  hussh_link_free(link);
}

int main(void) {
  test_requests();
  test_signals();
  test_signals_that_are_not_repeated();
  test_what_a_peer_may_ask();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
