/* channel_recv.c - what a peer sends in the connection protocol (RFC 4254), message by message.
 *
 * Every message finds its channel by number and changes only that channel.  So no
 * operation can take another's answer, any number of opens run at once, and giving
 * one up costs one channel.
 *
 * Every number and length comes from the peer, and each is checked before it is used.
 * A message that cannot be read fails the link.  A message for a channel that is gone
 * or closed came late, and is ignored.
 */
#include "channel_recv.h"

#include "channel.h"
#include "channel_signal.h"
#include "messages.h"
#include "send.h"

#include <limits.h>

/* The part of a message that has not been read; bad: it was too short. */
#define OFFERS_MAX 256 /* channels that the peer opened and nobody has answered ... */
#define OFFER_MAX 4096 /* ... and the longest message that opens one */

struct cursor {
  const unsigned char *at;
  size_t left;
  int bad;
};

static uint32_t take_u32(struct cursor *c) {
  uint32_t value;
  if (c->left < 4) {
    c->bad = 1;
    return 0;
  }
  value = get_u32(c->at);
  c->at += 4;
  c->left -= 4;
  return value;
}

static unsigned take_byte(struct cursor *c) {
  if (!c->left) {
    c->bad = 1;
    return 0;
  }
  c->left--;
  return *c->at++;
}

static const unsigned char *take_string(struct cursor *c, size_t *len) {
  const unsigned char *string;
  *len = take_u32(c);
  if (c->bad || *len > c->left) {
    c->bad = 1;
    *len = 0;
    return c->at;
  }
  string = c->at;
  c->at += *len;
  c->left -= *len;
  return string;
}

static void on_open(hussh_link *link, struct cursor *c) {
  const unsigned char *message = c->at - 1;
  const unsigned char *kind;
  size_t message_len = c->left + 1, len;
  unsigned char refusal[17], size[4];
  uint32_t sender, reason = 1; /* prohibited: we have asked for no such thing */
  kind = take_string(c, &len);
  sender = take_u32(c);
  if (c->bad)
    return;
  if (link->takes_offers) {
    reason = 4; /* resource shortage: the owner does not keep up */
    if (link->offer_count < OFFERS_MAX && message_len <= OFFER_MAX) {
      put_u32(size, (uint32_t)message_len);
      if (queue_append(&link->offers, size, 4) ||
          queue_append(&link->offers, message, message_len)) {
        link_out_of_memory(link);
        return;
      }
      link->offer_count++;
      link_changed(link);
      return;
    }
  } else {
    link->unasked += link->unasked < INT_MAX;
    copy_text(link->unasked_kind, sizeof(link->unasked_kind), kind, len);
  }
  refusal[0] = MSG_CHANNEL_OPEN_FAILURE;
  put_u32(put_u32(put_u32(put_u32(refusal + 1, sender), reason), 0), 0);
  link_answer(link, refusal, sizeof(refusal));
}

void hussh_link_take_offers(hussh_link *link, int on) {
  link->takes_offers = on;
}

ssize_t hussh_link_offer(hussh_link *link, void *message, size_t size) {
  size_t len;
  if (!link->offer_count)
    return HUSSH_E_AGAIN;
  len = get_u32(queue_head(&link->offers));
  if (len <= size) {
    memcpy(message, queue_head(&link->offers) + 4, len);
    queue_drop(&link->offers, len + 4);
    link->offer_count--;
  }
  return (ssize_t)len;
}

static void on_global_request(hussh_link *link, struct cursor *c) {
  static const unsigned char failure = MSG_REQUEST_FAILURE;
  size_t len;
  unsigned want_reply;
  take_string(c, &len);
  want_reply = take_byte(c);
  if (!c->bad && want_reply)
    link_answer(link, &failure, 1);
}

static int is_unanswered(const hussh_channel *channel) {
  return channel->state == HUSSH_CH_OPENING ||
         (channel->state == HUSSH_CH_UNHEARD && channel->overtaken);
}

static void on_confirmation(hussh_channel *channel, struct cursor *c) {
  uint32_t id = take_u32(c), window = take_u32(c), packet = take_u32(c);
  if (c->bad || !is_unanswered(channel) || !packet) {
    c->bad = 1;
    return;
  }
  channel->link->waiting -= channel->state == HUSSH_CH_OPENING;
  channel->remote_id = id;
  channel->send_window = window;
  channel->send_packet = packet < MAX_PACKET ? packet : MAX_PACKET;
  channel->state = HUSSH_CH_OPEN;
  channel_changed(channel);
  if (channel->abandoned) {
    channel->close_sent = 1;
    channel_emit(channel, MSG_CHANNEL_CLOSE); /* last: if it fails, the channel is gone */
  }
}

static void on_refusal(hussh_channel *channel, struct cursor *c) {
  size_t len;
  const unsigned char *text;
  uint32_t reason = take_u32(c);
  if (c->bad || !is_unanswered(channel)) {
    c->bad = 1;
    return;
  }
  text = take_string(c, &len); /* some servers leave the texts out */
  c->bad = 0;
  channel_stop_waiting(channel);
  copy_text(channel->text, sizeof(channel->text), text, len);
  channel->reason = reason > INT_MAX ? INT_MAX : (int)reason;
  channel->state = HUSSH_CH_REFUSED;
  channel_changed(channel);
  channel_gone(channel);
}

static void on_window(hussh_channel *channel, struct cursor *c) {
  uint32_t add = take_u32(c);
  if (c->bad || add > UINT32_MAX - channel->send_window) {
    c->bad = 1;
    return;
  }
  channel->send_window += add;
  channel_dirty(channel);
}

/* Something came that is no end. */
static void channel_went_on(hussh_channel *channel) {
  if (channel->rx.len + channel->rx_err.len >= channel->quiet)
    channel_changed(channel);
}

static void on_data(hussh_channel *channel, struct cursor *c, int extended) {
  uint32_t stream = extended ? take_u32(c) : 0;
  size_t len;
  const unsigned char *bytes = take_string(c, &len);
  hussh_queue *to;
  if (c->bad)
    return;
  if (len > channel->recv_window) {
    link_fail_text(channel->link, HUSSH_DEAD_PROTOCOL, 0,
                   "the peer sent more channel data than its window allows");
    return;
  }
  channel->recv_window -= (uint32_t)len;
  channel->heard = 1;
  if (channel->close_sent || channel->abandoned)
    return;
  if (stream > 1 || (extended && (stream == 0 || channel->child || channel->endpoint))) {
    channel_credit(channel, len); /* nobody reads such a stream */
    return;
  }
  if (channel->child && channel->child->dead)
    return;
  to = channel->child ? &channel->child->rx : stream ? &channel->rx_err : &channel->rx;
  if (queue_append(to, bytes, len) ||
      (channel->keeps_order && len && channel_note_order(channel, stream == 1, len))) {
    link_out_of_memory(channel->link);
    return;
  }
  if (channel->child)
    link_ready(channel->child);
  else if (channel->endpoint)
    endpoint_ready(channel->endpoint);
  else if (to == &channel->rx_err || channel_worth_reading(channel))
    channel_went_on(channel);
}

static void on_close(hussh_channel *channel) {
  channel->closed = 1;
  channel->abrupt = !channel->eof;
  channel->eof = 1;
  channel_stop_waiting(channel);
  queue_clear(&channel->tx);
  if (!channel->close_sent) {
    channel->close_sent = 1;
    channel_emit(channel, MSG_CHANNEL_CLOSE);
  }
  channel_child_eof(channel);
  if (channel->endpoint)
    endpoint_ready(channel->endpoint);
  channel_changed(channel);
  channel_gone(channel);
}

static void on_request(hussh_channel *channel, struct cursor *c) {
  size_t len;
  const unsigned char *name = take_string(c, &len);
  unsigned want_reply = take_byte(c);
  if (c->bad)
    return;
  if (len == 11 && !memcmp(name, "exit-status", 11)) {
    uint32_t status = take_u32(c);
    if (c->bad)
      return;
    channel->exit_status = status;
    channel->exit_known = 1;
    channel_went_on(channel);
  } else if (len == 11 && !memcmp(name, "exit-signal", 11)) {
    const unsigned char *signal = take_string(c, &len);
    unsigned core = take_byte(c);
    if (c->bad)
      return;
    copy_text(channel->text, sizeof(channel->text), signal, len);
    channel->core = core != 0;
    channel->exit_known = 2;
    channel_went_on(channel);
  }
  if (want_reply && !channel->close_sent) {
    unsigned char answer[5];
    answer[0] = MSG_CHANNEL_FAILURE;
    put_u32(answer + 1, channel->remote_id);
    link_answer(channel->link, answer, sizeof(answer));
  }
}

static void on_answer(hussh_channel *channel, int failure) {
  int answer = channel->replies;
  if (answer == channel->requests)
    return; /* we asked nothing */
  if (failure && channel->replies < 31)
    channel->failures |= 1 << channel->replies;
  channel->replies++;
  channel->link->waiting--;
  if (failure)
    channel_changed(channel);
  else
    channel_went_on(channel);
  channel_signal_answered(channel, answer, failure); /* last: the channel may be gone */
}

static void set_unheard(hussh_channel *channel) {
  channel_stop_waiting(channel);
  channel->state = HUSSH_CH_UNHEARD;
  channel_changed(channel);
  channel_gone(channel);
}

void channels_unheard(hussh_link *link) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++)
    if (link->channels[i] && link->channels[i]->state == HUSSH_CH_OPENING)
      set_unheard(link->channels[i]);
}

int channels_unimplemented(hussh_link *link, uint32_t seqno) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++) {
    hussh_channel *channel = link->channels[i];
    if (channel && channel->state == HUSSH_CH_OPENING && channel->has_open_seqno &&
        channel->open_seqno == seqno) {
      set_unheard(channel);
      return 1;
    }
  }
  return 0;
}

/* Global requests are sent after the login only.  A server that has answered one has mostly
 * answered the opens of sessions before it, unless it did not look at them.  Those that
 * answer both side by side (Go's) may still do so: the number of the channel stays taken. */
static void early_sessions_lost(hussh_link *link) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++) {
    hussh_channel *channel = link->channels[i];
    if (channel && channel->state == HUSSH_CH_OPENING && channel->early && channel->is_session) {
      channel->overtaken = 1;
      set_unheard(channel);
    }
  }
}

void link_global_answered(hussh_link *link, int answer, uint32_t port) {
  if (link->globals_asked > link->global_replies) {
    early_sessions_lost(link);
    link->global_replies++;
    if (link->kept_reply == link->global_replies) {
      link->kept_answer = answer;
      link->kept_port = port;
    }
    link_changed(link);
  }
}

int hussh_link_keep_reply(hussh_link *link) {
  if (link->kept_reply > link->global_replies)
    return HUSSH_E_STATE;
  link->kept_reply = link->globals_asked + 1;
  link->kept_answer = HUSSH_E_AGAIN;
  return 0;
}

int hussh_link_kept_reply(const hussh_link *link, uint32_t *port) {
  *port = link->kept_port;
  return link->dead ? HUSSH_E_DEAD : link->kept_answer;
}

void channels_message(hussh_link *link, const unsigned char *message, size_t len) {
  struct cursor c = {message + 1, len - 1, 0};
  unsigned type = message[0];
  if (type == MSG_GLOBAL_REQUEST) {
    on_global_request(link, &c);
  } else if (type == MSG_REQUEST_SUCCESS || type == MSG_REQUEST_FAILURE) {
    int yes = type == MSG_REQUEST_SUCCESS;
    link_global_answered(link, yes, yes && c.left >= 4 ? get_u32(c.at) : 0);
  } else if (type == MSG_CHANNEL_OPEN) {
    on_open(link, &c);
  } else if (type >= MSG_CHANNEL_OPEN_CONFIRMATION && type <= MSG_CHANNEL_FAILURE) {
    hussh_channel *channel = channel_find(link, take_u32(&c));
    /* Unknown numbers and messages after CLOSE are late, not hostile. */
    if (channel && !channel->closed) {
      if (type == MSG_CHANNEL_OPEN_CONFIRMATION)
        on_confirmation(channel, &c);
      else if (type == MSG_CHANNEL_OPEN_FAILURE)
        on_refusal(channel, &c);
      else if (channel->state != HUSSH_CH_OPEN)
        c.bad = 1;
      else if (type == MSG_CHANNEL_WINDOW_ADJUST)
        on_window(channel, &c);
      else if (type == MSG_CHANNEL_DATA)
        on_data(channel, &c, 0);
      else if (type == MSG_CHANNEL_EXTENDED_DATA)
        on_data(channel, &c, 1);
      else if (type == MSG_CHANNEL_EOF) {
        channel->eof = 1;
        channel_child_eof(channel);
        if (channel->endpoint)
          endpoint_ready(channel->endpoint);
        channel_went_on(channel);
      } else if (type == MSG_CHANNEL_CLOSE)
        on_close(channel);
      else if (type == MSG_CHANNEL_REQUEST)
        on_request(channel, &c);
      else
        on_answer(channel, type == MSG_CHANNEL_FAILURE);
    }
  } else {
    link_answer_unimplemented(link);
  }
  if (c.bad)
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "malformed connection-protocol message");
}
