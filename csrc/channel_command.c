/* channel_command.c - one command from begin to end, without its owner in between.
 *
 * Most commands read nothing, and all that their owner wants is their output and status.
 * hussh_channel_run asks for such a command and ends its stdin.  From then on the pump is
 * enough (channel_recv.c): answers, output, status and EOF wait in the channel.  The owner
 * hears of the peer's CLOSE, which was answered by then, and earlier only of a refusal, of
 * much output, or of the end of the link.
 *
 * A spare session was opened for a command that does not exist yet.  It makes no event,
 * because nobody waits for it, until its owner takes it.
 */
#include "channel.h"
#include "messages.h"

hussh_channel *hussh_channel_spare(hussh_link *link, uint32_t window) {
  hussh_channel *channel = hussh_channel_open(link, "session", 7, NULL, 0, window);
  if (channel)
    channel->spare = 1;
  return channel;
}

int hussh_channel_take(hussh_channel *channel) {
  channel->spare = 0;
  return channel_usable(channel);
}

int hussh_channel_run(hussh_channel *channel, const void *command, size_t len, size_t most) {
  int rc = hussh_channel_request(channel, "exec", 4, 1, command, len);
  if (rc)
    return rc;
  channel->keeps_order = 1;
  channel->quiet = most;
  return hussh_channel_eof(channel);
}
