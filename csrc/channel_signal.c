/* channel_signal.c - signals to commands (RFC 4254 section 6.9), which the peer may lose.
 *
 * sshd sends a signal to the process group that a command makes for itself when it
 * begins.  Before that the signal reaches nobody, and sshd's answer, which the RFC does
 * not foresee, is no.  So a signal may be repeated: an answer is asked for, and with each
 * no it is sent again, a bounded number of times.  A command that has written something
 * has begun; there one message is enough.
 *
 * No message may follow our CLOSE.  A channel that its owner frees meanwhile is closed
 * once its signal is settled.  Of several signals only the last is repeated.
 *
 * A peer that refused every time (sshd for root, or with ForceCommand) is asked once
 * from then on.
 */
#include "channel_signal.h"

#include "channel.h"
#include "messages.h"

#define SIGNAL_TRIES 100 /* 2 are the rule; under load 21 were the most of 300 */

static int send_signal(hussh_channel *channel, int want_reply) {
  unsigned char extra[4 + sizeof(channel->signal)];
  size_t len = strlen(channel->signal);
  memcpy(put_u32(extra, (uint32_t)len), channel->signal, len);
  channel->signal_reply = channel->requests;
  return hussh_channel_request(channel, "signal", 6, want_reply, extra, 4 + len);
}

int hussh_channel_signal(hussh_channel *channel, const void *name, size_t len, int repeat) {
  if (len >= sizeof(channel->signal) || memchr(name, 0, len))
    return HUSSH_E_STATE;
  memcpy(channel->signal, name, len);
  channel->signal[len] = '\0';
  repeat = repeat && !channel->heard && !channel->exit_known && !channel->link->signals_refused;
  channel->signal_tries = repeat ? SIGNAL_TRIES : 0;
  return send_signal(channel, repeat);
}

void channel_signal_answered(hussh_channel *channel, int answer, int refused) {
  if (!channel->signal_tries || answer != channel->signal_reply)
    return;
  channel->signal_tries = refused && !channel->exit_known ? channel->signal_tries - 1 : 0;
  if (channel->signal_tries) {
    send_signal(channel, 1); /* last: if that fails, the channel may be gone */
    return;
  }
  if (refused && !channel->exit_known)
    channel->link->signals_refused = 1;
  if (channel->abandoned)
    hussh_channel_close(channel); /* last, too */
}
