/* test_belt.c - pump.c: where a turn moves no byte, the belt fails the tree and the call returns.
 *
 * IDLE_TURNS=0 makes the belt so tight that the first turn without a byte meets it.
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: pump.c -DIDLE_TURNS=0
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"

static void test_the_belt(int (*call)(hussh_link *)) {
  hussh_link *root = ready_link(), *inner;
  hussh_channel *channel = opened(root, 1000, 1000), *other = opened(root, 1000, 1000);
  CHECK((inner = hussh_link_over_channel(channel)));
  make_ready(inner);
  root->moved_before = root->moved;
  channel_dirty(other); /* it has nothing to send */
  call(root);
  CHECK(dead_by(root, HUSSH_DEAD_STUCK) && count_events(root) >= 3);
  CHECK(other->state == HUSSH_CH_DEAD && hussh_channel_eof(other) == HUSSH_E_DEAD);
  call(root);
  CHECK(inner->rx_eof);
  hussh_channel_free(other);
  hussh_link_free(inner);
  hussh_link_free(root);
}

static int pump(hussh_link *root) {
  return hussh_pump(root, 1 << 20);
}

int main(void) {
  test_the_belt(pump);
  test_the_belt(hussh_flush);
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
