/* channel.c - channels (RFC 4254): what leaves by them, and the calls of their owners.
 *
 * Windows (section 5.2): the peer gets credit for what was *taken*, not for what
 * arrived, so a reader that stops makes the sender stop.  On a channel that carries a
 * link, "taken" is what that link's session has read.  The other way, a message of
 * data leaves only while the peer's window, the backlog of the link below and a key
 * exchange allow it; until then the bytes stay in the channel's tx queue.
 *
 * A channel that its owner has freed lives on, without events, until the peer's
 * CLOSE has come.  What the peer sends is in channel_recv.c, the table of channels in
 * tree.c.
 */
#include "channel.h"

#include <errno.h>

#include "kex_work.h"
#include "messages.h"
#include "send.h"

#define WRITE_MAX ((size_t)1 << 20)   /* most bytes that a channel queues for sending ... */
#define WRITE_LOW ((size_t)256 << 10) /* ... and its owner hears of room when so few are left */
#define WRITE_BULK ((size_t)64 << 10) /* from this size on bytes are sent without being queued */

void channel_emit(hussh_channel *channel, unsigned char type) {
  unsigned char message[5];
  message[0] = type;
  put_u32(message + 1, channel->remote_id);
  link_emit(channel->link, message, sizeof(message), NULL, 0);
}

void channel_credit(hussh_channel *channel, size_t consumed) {
  unsigned char message[9];
  channel->consumed += (uint32_t)consumed;
  if (channel->consumed < channel->recv_window_max / 2 || channel->close_sent || channel->eof ||
      channel->link->dead)
    return;
  message[0] = MSG_CHANNEL_WINDOW_ADJUST;
  put_u32(put_u32(message + 1, channel->remote_id), channel->consumed);
  channel->recv_window += channel->consumed;
  channel->consumed = 0;
  link_emit(channel->link, message, sizeof(message), NULL, 0);
}

/* Sends as many of these bytes as the window, a key exchange and the link's own
 * backlog allow; returns their number. */
static size_t send_data(hussh_channel *channel, const unsigned char *bytes, size_t len) {
  hussh_link *link = channel->link;
  size_t sent = 0;
  while (sent < len && channel->send_window) {
    unsigned char head[9];
    size_t n = len - sent;
    if (link_in_kex(link) || link->pending.len || link->tx.len >= TX_HIGH) {
      link->blocked = 1;
      break;
    }
    if (n > channel->send_window)
      n = channel->send_window;
    if (n > channel->send_packet)
      n = channel->send_packet;
    head[0] = MSG_CHANNEL_DATA;
    put_u32(put_u32(head + 1, channel->remote_id), (uint32_t)n);
    if (link_emit(link, head, sizeof(head), bytes + sent, n))
      break;
    channel->send_window -= (uint32_t)n;
    link->unblock_from = channel->local_id + 1;
    sent += n;
  }
  return sent;
}

void channel_flush(hussh_channel *channel) {
  hussh_link *link = channel->link;
  hussh_queue *from = channel->child ? &channel->child->tx : &channel->tx;
  size_t sent;
  if (channel->state != HUSSH_CH_OPEN || channel->close_sent || link->dead) {
    if (channel->child && (channel->close_sent || link->dead))
      queue_clear(from);
    return;
  }
  sent = from->len ? send_data(channel, queue_head(from), from->len) : 0;
  if (link->dead)
    return;
  if (sent)
    queue_drop(from, sent);
  if (channel->child) {
    channel->child->sent += sent;
    channels_unblock(channel->child);
    return;
  }
  if (!from->len && channel->eof_wanted && !channel->eof_sent) {
    channel->eof_sent = 1;
    channel_emit(channel, MSG_CHANNEL_EOF);
    if (link->dead)
      return; /* and the channel may be gone */
  }
  if (channel->endpoint && (channel->endpoint->readable || channel->endpoint->read_eof))
    endpoint_ready(channel->endpoint);
  if (channel->want_room && sent && from->len <= WRITE_LOW) {
    channel->want_room = 0;
    channel_changed(channel);
  }
  if (channel->finishing && channel->eof_sent)
    hussh_channel_close(channel); /* last: if that fails, the channel is gone */
}

void channels_unblock(hussh_link *link) {
  uint32_t i;
  if (!link->blocked || link->dead || link->tx.len >= TX_LOW)
    return;
  if (link->rx.len && !work_is_missing(link))
    link_ready(link); /* it read nothing while it was flooded, even in a key exchange */
  if (link_in_kex(link) || link->pending.len)
    return;
  link->blocked = 0;
  for (i = 0; i < link->channel_slots; i++) {
    /* Behind the one that sent last: else those with low numbers would take all the room. */
    hussh_channel *channel = link->channels[(link->unblock_from + i) % link->channel_slots];
    if (channel && (channel->tx.len || channel->eof_wanted || channel->endpoint ||
                    (channel->child && channel->child->tx.len)))
      channel_dirty(channel);
  }
}

/* ---- the owner's calls --------------------------------------------------- */

hussh_channel *hussh_channel_open(hussh_link *link, const void *type, size_t type_len,
                                  const void *extra, size_t extra_len, uint32_t window) {
  unsigned char head[5 + 64 + 12], *p = head;
  hussh_channel *channel;
  int is_early = link->phase < HUSSH_OPEN && link->phase >= HUSSH_HOSTKEY && link->auth_asked;
  if (link->dead || (link->phase < HUSSH_OPEN && !is_early) || type_len > 64 || extra_len > 16384)
    return NULL;
  channel = channel_new(link, window);
  if (!channel)
    return NULL;
  link->nudges = 0;
  channel->has_open_seqno = !link_in_kex(link) && !link->pending.len;
  channel->open_seqno = link->session->local.seqno;
  channel->early = is_early;
  channel->is_session = type_len == 7 && !memcmp(type, "session", 7);
  *p++ = MSG_CHANNEL_OPEN;
  p = put_u32(p, (uint32_t)type_len);
  memcpy(p, type, type_len);
  p += type_len;
  p = put_u32(put_u32(put_u32(p, channel->local_id), window), MAX_PACKET);
  if (link_emit(link, head, (size_t)(p - head), extra, extra_len)) {
    channel_destroy(channel);
    return NULL;
  }
  return channel;
}

hussh_channel *hussh_channel_accept(hussh_link *link, uint32_t id, uint32_t peer_window,
                                    uint32_t peer_packet, uint32_t window) {
  unsigned char message[17];
  hussh_channel *channel;
  if (link->dead || link->phase < HUSSH_OPEN || !peer_packet)
    return NULL;
  channel = channel_new(link, window);
  if (!channel)
    return NULL;
  link->waiting--; /* for no answer: we give it */
  channel->state = HUSSH_CH_OPEN;
  channel->remote_id = id;
  channel->send_window = peer_window;
  channel->send_packet = peer_packet < MAX_PACKET ? peer_packet : MAX_PACKET;
  message[0] = MSG_CHANNEL_OPEN_CONFIRMATION;
  put_u32(put_u32(put_u32(put_u32(message + 1, id), channel->local_id), window), MAX_PACKET);
  if (link_emit(link, message, sizeof(message), NULL, 0)) {
    channel_destroy(channel);
    return NULL;
  }
  return channel;
}

uint32_t hussh_link_lingering(const hussh_link *link) {
  return link->lingering;
}

uint64_t hussh_channel_token(const hussh_channel *channel) {
  return channel->token;
}

void hussh_channel_get_info(const hussh_channel *channel, hussh_channel_info *info) {
  info->state = channel->state;
  info->reason = channel->reason;
  info->eof = channel->eof;
  info->closed = channel->closed;
  info->abrupt = channel->abrupt;
  info->replies = channel->replies;
  info->failures = channel->failures;
  info->exit_known = channel->exit_known;
  info->core = channel->core;
  info->exit_status = channel->exit_status;
  info->rx = channel->rx.len;
  info->rx_err = channel->rx_err.len;
  info->queued = channel->tx.len;
  memcpy(info->text, channel->text, sizeof(info->text));
}

int channel_usable(const hussh_channel *channel) {
  if (channel->link->dead)
    return HUSSH_E_DEAD;
  return channel->state == HUSSH_CH_OPEN && !channel->close_sent && !channel->closed
             ? 0
             : HUSSH_E_STATE;
}

int hussh_channel_request(hussh_channel *channel, const void *name, size_t name_len,
                          int want_reply, const void *extra, size_t extra_len) {
  unsigned char head[5 + 4 + 64 + 1], *p = head;
  int rc = channel_usable(channel);
  if (rc)
    return rc;
  if (name_len > 64 || extra_len > HUSSH_REQUEST_MAX)
    return HUSSH_E_STATE;
  *p++ = MSG_CHANNEL_REQUEST;
  p = put_u32(p, channel->remote_id);
  p = put_u32(p, (uint32_t)name_len);
  memcpy(p, name, name_len);
  p += name_len;
  *p++ = want_reply != 0;
  if (want_reply) {
    channel->requests++;
    channel->link->waiting++;
    if (!channel->running) {
      channel->running = 1;
      channel->link->waiting++;
    }
  }
  channel->link->nudges = 0;
  return link_emit(channel->link, head, (size_t)(p - head), extra, extra_len);
}

int channel_worth_reading(const hussh_channel *channel) {
  size_t have = channel->rx.len, need = channel->message_rest;
  if (!channel->longest_message)
    return 1;
  if (!need) {
    if (have < 4)
      return 0;
    need = (size_t)get_u32(queue_head(&channel->rx)) + 4;
  }
  return have >= need || need > channel->longest_message;
}

void hussh_channel_await_message(hussh_channel *channel, size_t rest, size_t longest) {
  /* The peer gets credit for what is read, so more cannot be counted on. */
  size_t most = channel->recv_window_max / 2;
  channel->longest_message = longest < most ? longest : most;
  channel->message_rest = rest;
  if (channel->rx.len && channel_worth_reading(channel))
    channel_changed(channel);
}

ssize_t hussh_channel_read(hussh_channel *channel, int stream, void *bytes, size_t size) {
  hussh_queue *from = stream ? &channel->rx_err : &channel->rx;
  size_t n = queue_take(from, bytes, size);
  if (!stream)
    channel->longest_message = 0;
  if (n)
    channel_credit(channel, n);
  return (ssize_t)n;
}

void hussh_channel_await_close(hussh_channel *channel, size_t most) {
  channel->quiet = most;
}

void hussh_channel_keep_order(hussh_channel *channel) {
  channel->keeps_order = 1;
}

int channel_note_order(hussh_channel *channel, int is_err, size_t len) {
  uint32_t pair[2] = {0, 0};
  size_t last = channel->order.len;
  unsigned char *tail = last ? queue_head(&channel->order) + last - sizeof(pair) : NULL;
  if (tail)
    memcpy(pair, tail, sizeof(pair));
  if (!tail || len > UINT32_MAX - pair[is_err] || (!is_err && pair[1])) {
    pair[is_err] = (uint32_t)len;
    pair[!is_err] = 0;
    return queue_append(&channel->order, pair, sizeof(pair));
  }
  pair[is_err] += (uint32_t)len;
  memcpy(tail, pair, sizeof(pair));
  return 0;
}

size_t hussh_channel_order(hussh_channel *channel, void *pairs, size_t size) {
  size_t len = channel->order.len;
  if (len <= size)
    queue_take(&channel->order, pairs, len);
  return len;
}

static int queue_data(hussh_channel *channel, const unsigned char *bytes, size_t len) {
  if (!queue_append(&channel->tx, bytes, len))
    return 0;
  link_out_of_memory(channel->link);
  return HUSSH_E_MEMORY;
}

ssize_t hussh_channel_write(hussh_channel *channel, const void *bytes, size_t len) {
  const unsigned char *from = bytes;
  int rc = channel_usable(channel);
  size_t left = len, room;
  if (rc)
    return rc;
  if (channel->eof_wanted || channel->child)
    return HUSSH_E_STATE;
  if (len >= WRITE_BULK && channel->tx.len < channel->send_packet) {
    /* Bulk goes in full packets, straight from the caller's memory; what is
     * queued becomes the head of the first one. */
    if (channel->tx.len) {
      size_t fill = channel->send_packet - channel->tx.len;
      if (queue_data(channel, from, fill))
        return HUSSH_E_MEMORY;
      from += fill;
      left -= fill;
      channel_flush(channel);
    }
    if (!channel->tx.len && !channel->link->dead) {
      size_t sent = send_data(channel, from, left - left % channel->send_packet);
      from += sent;
      left -= sent;
    }
    if (channel->link->dead)
      return HUSSH_E_DEAD;
  }
  room = channel->tx.len < WRITE_MAX ? WRITE_MAX - channel->tx.len : 0;
  if (left > room) {
    len -= left - room;
    left = room;
    channel->want_room = 1;
  }
  if (queue_data(channel, from, left))
    return HUSSH_E_MEMORY;
  channel_dirty(channel);
  return (ssize_t)len;
}

void hussh_channel_widen(hussh_channel *channel, uint32_t window) {
  unsigned char message[9];
  uint32_t more = window - channel->recv_window_max;
  if (channel_usable(channel) || window <= channel->recv_window_max)
    return;
  message[0] = MSG_CHANNEL_WINDOW_ADJUST;
  put_u32(put_u32(message + 1, channel->remote_id), more);
  channel->recv_window += more;
  channel->recv_window_max = window;
  link_emit(channel->link, message, sizeof(message), NULL, 0);
}

int hussh_channel_eof(hussh_channel *channel) {
  int rc = channel_usable(channel);
  if (rc)
    return rc;
  channel->eof_wanted = 1;
  channel_dirty(channel);
  return 0;
}

int hussh_channel_close(hussh_channel *channel) {
  int rc = channel_usable(channel);
  if (rc)
    return rc;
  queue_clear(&channel->tx);
  channel_stop_waiting(channel);
  channel->close_sent = 1;
  channel_emit(channel, MSG_CHANNEL_CLOSE);
  return 0;
}

void hussh_channel_free(hussh_channel *channel) {
  if (channel->endpoint)
    endpoint_over(channel->endpoint, ECONNABORTED);
  channel_child_eof(channel);
  if (channel->child) {
    channel->child->outer = NULL;
    channel->child = NULL;
  }
  if (channel->signal_tries && !channel_usable(channel))
    queue_clear(&channel->tx); /* CLOSE comes after the answer: see channel_signal.c */
  else
    hussh_channel_close(channel);
  channel->abandoned = 1; /* not before: a close that fails would free it */
  queue_clear(&channel->rx);
  queue_clear(&channel->rx_err);
  queue_clear(&channel->order);
  if (!channel_gone(channel) && channel->is_session && !channel->overtaken) {
    channel->lingers = 1;
    channel->link->lingering++;
  }
}

void hussh_channel_finish(hussh_channel *channel) {
  if (channel->child || hussh_channel_eof(channel)) {
    hussh_channel_free(channel);
    return;
  }
  channel->finishing = channel->abandoned = 1;
  queue_clear(&channel->rx);
  queue_clear(&channel->rx_err);
  queue_clear(&channel->order);
}
