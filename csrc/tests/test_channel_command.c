/* test_channel_command.c - a command from its request to its end in C, without a server.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_command.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

static void test_await_close(void) {
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  unsigned char buffer[100];
  hussh_channel_await_close(channel, 20);
  CHECK(!hussh_channel_request(channel, "a", 1, 1, "", 0));
  CHECK(!hussh_channel_request(channel, "b", 1, 1, "", 0));
  count_events(link);
  say(link, "bu", MSG_CHANNEL_SUCCESS, 0);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)10);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)9);
  CHECK(count_events(link) == 0);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1); /* that is much */
  CHECK(count_events(link) == 1);
  CHECK(hussh_channel_read(channel, 0, buffer, 100) == 11);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)1);
  say(link, "busbu", MSG_CHANNEL_REQUEST, 0, "exit-status", 0, 3);
  CHECK(count_events(link) == 0 && channel->exit_known == 1);
  say(link, "bu", MSG_CHANNEL_FAILURE, 0); /* a refusal */
  CHECK(count_events(link) == 1);
  say(link, "bu", MSG_CHANNEL_EOF, 0);
  CHECK(count_events(link) == 0);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(count_events(link) == 1);
  hussh_link_free(link);

  link = ready_link(); /* nor is the end of the connection kept back */
  channel = opened(link, 1000, 0);
  hussh_channel_await_close(channel, 20);
  count_events(link);
  hussh_link_kill(link);
  CHECK(count_events(link) >= 1);
  hussh_channel_free(channel);
  hussh_link_free(link);
}

static void test_run(void) {
  static const unsigned char command[] = {0, 0, 0, 2, 'l', 's'};
  hussh_link *link = ready_link();
  hussh_channel *channel = opened(link, 1000, 0);
  hussh_channel_info info;
  uint32_t order[2];
  count_events(link);
  CHECK(!hussh_channel_run(channel, command, sizeof(command), 20));
  hussh_pump(link, 0);
  CHECK(hears(link, "busbs", MSG_CHANNEL_REQUEST, channel->remote_id, "exec", 1, "ls"));
  CHECK(hears(link, "bu", MSG_CHANNEL_EOF, channel->remote_id));
  say(link, "bu", MSG_CHANNEL_SUCCESS, 0);
  say(link, "buud", MSG_CHANNEL_EXTENDED_DATA, 0, 1, bulk, (size_t)3);
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)2);
  say(link, "busbu", MSG_CHANNEL_REQUEST, 0, "exit-status", 0, 3);
  say(link, "bu", MSG_CHANNEL_EOF, 0);
  CHECK(count_events(link) == 0);
  say(link, "bu", MSG_CHANNEL_CLOSE, 0);
  CHECK(count_events(link) == 1 && hears(link, "bu", MSG_CHANNEL_CLOSE, channel->remote_id));
  hussh_channel_get_info(channel, &info);
  CHECK(info.closed && info.exit_status == 3 && info.rx == 2 && info.rx_err == 3);
  CHECK(hussh_channel_order(channel, order, sizeof(order)) == 16);
  CHECK(hussh_channel_run(channel, command, sizeof(command), 20) == HUSSH_E_STATE);
  hussh_channel_free(channel);
  CHECK(!link->channel_live);

  channel = opened(link, 1000, 0); /* a refusal and much output are told of */
  count_events(link);
  CHECK(!hussh_channel_run(channel, command, sizeof(command), 20));
  say(link, "bud", MSG_CHANNEL_DATA, 0, bulk, (size_t)20);
  CHECK(count_events(link) == 1);
  say(link, "bu", MSG_CHANNEL_FAILURE, 0);
  CHECK(count_events(link) == 1);
  hussh_link_kill(link); /* as is the end of the link */
  CHECK(count_events(link) >= 1);
  CHECK(hussh_channel_run(channel, command, sizeof(command), 20) == HUSSH_E_DEAD);
  hussh_channel_free(channel);
  hussh_link_free(link);
}

int main(void) {
  test_await_close();
  test_run();
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
