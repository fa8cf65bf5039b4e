/* channel_signal.h - channel_signal.c for channel_recv.c, which hears the answers. */
#ifndef HUSSH_CHANNEL_SIGNAL_H
#define HUSSH_CHANNEL_SIGNAL_H

#include "tree.h"

/* The peer's answer with this number, from 0 on, has come.  It may free the channel. */
void channel_signal_answered(hussh_channel *channel, int answer, int refused);

#endif
