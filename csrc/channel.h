/* channel.h - channel.c for the files above it: what leaves by a channel. */
#ifndef HUSSH_CHANNEL_H
#define HUSSH_CHANNEL_H

#include "tree.h"

/* Most channel data that a peer may put in one packet; the same the other way. */
#define MAX_PACKET 32768u

/* 0 if the owner may send by it, else why not: HUSSH_E_DEAD, HUSSH_E_STATE. */
int channel_usable(const hussh_channel *channel);
/* Sends a message of nothing but its number and the channel's.  It may fail the
 * link, which frees a channel that its owner has let go. */
void channel_emit(hussh_channel *channel, unsigned char type);
/* Gives the peer credit for this many more bytes, once that is worth a message. */
void channel_credit(hussh_channel *channel, size_t consumed);
/* Notes that so many bytes of stdout or stderr came; -1: no memory. */
int channel_note_order(hussh_channel *channel, int is_err, size_t len);
/* Sends of what is queued as much as may be sent now, then EOF if that was asked for. */
void channel_flush(hussh_channel *channel);
/* Lets channels that wait for the link go on, once it has room and no key exchange runs. */
void channels_unblock(hussh_link *link);
/* 1 if the owner has to hear of what is queued of stdout: see hussh_channel_await_message. */
int channel_worth_reading(const hussh_channel *channel);

#endif
