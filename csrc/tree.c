/* tree.c - the books of a tree: its links and channels, which have work, which events wait.
 *
 * Every other file of the shim calls this one, and it calls none of them.  It
 * changes structs, tables and lists only: it sends no message, moves no byte and
 * calls nothing of libssh2.
 *
 * The root of a tree keeps four things for all of its links and channels.  The ready
 * list has the links with input to process, the dirty list the channels with output to
 * send; the pump empties both.  A third list has the endpoints to serve.  The events
 * are the tokens of links and channels that something happened to, each at most once,
 * until hussh_events takes them.
 */
#include "tree.h"

#include <errno.h>
#include <stdatomic.h>

#define CHANNELS_MAX 65536u

static atomic_size_t live;

void link_count(ptrdiff_t objects) {
  atomic_fetch_add_explicit(&live, (size_t)objects, memory_order_relaxed);
}

size_t hussh_live(void) {
  return atomic_load_explicit(&live, memory_order_relaxed);
}

/* ---- events -------------------------------------------------------------- */

uint64_t link_token(hussh_link *link) {
  hussh_link *root = link->root;
  if (root->objects == root->event_size) {
    size_t size = root->event_size ? root->event_size * 2 : 8;
    struct event *events = realloc(root->events, size * sizeof(*events));
    if (!events)
      return 0;
    root->events = events;
    root->event_size = size;
  }
  root->objects++;
  return ++root->next_token;
}

void link_forget_event(hussh_link *link, uint64_t token) {
  hussh_link *root = link->root;
  size_t i;
  root->objects--;
  for (i = 0; i < root->event_count; i++)
    if (root->events[i].token == token) {
      root->events[i] = root->events[--root->event_count];
      return;
    }
}

static void make_event(hussh_link *link, uint64_t token, int *signalled) {
  hussh_link *root = link->root;
  if (*signalled)
    return;
  *signalled = 1;
  root->events[root->event_count].token = token;
  root->events[root->event_count++].signalled = signalled;
}

void link_changed(hussh_link *link) {
  make_event(link, link->token, &link->signalled);
}

void channel_changed(hussh_channel *channel) {
  if (!channel->abandoned && !channel->spare)
    make_event(channel->link, channel->token, &channel->signalled);
}

void endpoint_changed(hussh_endpoint *endpoint) {
  if (endpoint->root)
    make_event(endpoint->root, endpoint->token, &endpoint->signalled);
}

size_t hussh_events(hussh_link *root, uint64_t *tokens, size_t max) {
  size_t count = 0;
  while (count < max && root->event_count) {
    struct event *event = &root->events[--root->event_count];
    *event->signalled = 0;
    tokens[count++] = event->token;
  }
  return count;
}

/* ---- the lists of what has work ------------------------------------------ */

void link_ready(hussh_link *link) {
  hussh_link *root = link->root;
  if (link->ready)
    return;
  link->ready = 1;
  link->next_ready = NULL;
  if (root->ready_tail)
    root->ready_tail->next_ready = link;
  else
    root->ready_head = link;
  root->ready_tail = link;
}

void link_unlist(hussh_link *link) {
  hussh_link *root = link->root, *at, *before = NULL;
  for (at = root->ready_head; at; before = at, at = at->next_ready)
    if (at == link) {
      if (before)
        before->next_ready = at->next_ready;
      else
        root->ready_head = at->next_ready;
      if (root->ready_tail == at)
        root->ready_tail = before;
      break;
    }
}

void channel_dirty(hussh_channel *channel) {
  hussh_link *root = channel->link->root;
  if (channel->dirty)
    return;
  channel->dirty = 1;
  channel->next_dirty = NULL;
  if (root->dirty_tail)
    root->dirty_tail->next_dirty = channel;
  else
    root->dirty_head = channel;
  root->dirty_tail = channel;
}

static void channel_unlist(hussh_channel *channel) {
  hussh_link *root = channel->link->root;
  hussh_channel *at, *before = NULL;
  if (!channel->dirty)
    return;
  for (at = root->dirty_head; at != channel; at = at->next_dirty)
    before = at;
  if (before)
    before->next_dirty = channel->next_dirty;
  else
    root->dirty_head = channel->next_dirty;
  if (root->dirty_tail == channel)
    root->dirty_tail = before;
}

void endpoint_ready(hussh_endpoint *endpoint) {
  struct endpoints *of;
  if (endpoint->ready || endpoint->running || endpoint->over || !endpoint->root)
    return;
  of = endpoint->root->endpoints;
  of->ready_count++;
  endpoint->ready = 1;
  endpoint->next_ready = NULL;
  if (of->ready_tail)
    of->ready_tail->next_ready = endpoint;
  else
    of->ready_head = endpoint;
  of->ready_tail = endpoint;
}

void endpoint_unlist(hussh_endpoint *endpoint) {
  struct endpoints *of;
  hussh_endpoint *at, *before = NULL;
  if (!endpoint->ready)
    return;
  of = endpoint->root->endpoints;
  for (at = of->ready_head; at != endpoint; at = at->next_ready)
    before = at;
  if (before)
    before->next_ready = endpoint->next_ready;
  else
    of->ready_head = endpoint->next_ready;
  if (of->ready_tail == endpoint)
    of->ready_tail = before;
  endpoint->ready = 0;
  of->ready_count--;
}

void endpoint_over(hussh_endpoint *endpoint, int error) {
  if (endpoint->channel)
    endpoint->channel->endpoint = NULL;
  endpoint->channel = NULL;
  if (endpoint->over)
    return;
  endpoint_unlist(endpoint);
  endpoint->over = 1;
  endpoint->error = error;
  endpoint_changed(endpoint);
}

/* ---- channels ------------------------------------------------------------ */

hussh_channel *channel_find(hussh_link *link, uint32_t id) {
  return id < link->channel_slots ? link->channels[id] : NULL;
}

static int find_slot(hussh_link *link, uint32_t *id) {
  uint32_t i, slots;
  hussh_channel **channels;
  for (i = link->channel_free_hint; i < link->channel_slots; i++)
    if (!link->channels[i]) {
      *id = i;
      link->channel_free_hint = i + 1;
      return 0;
    }
  if (link->channel_slots >= CHANNELS_MAX)
    return -1;
  slots = link->channel_slots ? link->channel_slots * 2 : 4;
  channels = realloc(link->channels, slots * sizeof(*channels));
  if (!channels)
    return -1;
  memset(channels + link->channel_slots, 0, (slots - link->channel_slots) * sizeof(*channels));
  *id = link->channel_slots;
  link->channels = channels;
  link->channel_slots = slots;
  link->channel_free_hint = *id + 1;
  return 0;
}

hussh_channel *channel_new(hussh_link *link, uint32_t window) {
  hussh_channel *channel = calloc(1, sizeof(*channel));
  if (!channel)
    return NULL;
  channel->token = link_token(link);
  if (!channel->token || find_slot(link, &channel->local_id)) {
    if (channel->token)
      link->root->objects--;
    free(channel);
    return NULL;
  }
  channel->link = link;
  channel->recv_window = channel->recv_window_max = window;
  link->channels[channel->local_id] = channel;
  link->channel_live++;
  link->waiting++;
  link_count(1);
  return channel;
}

void channel_stop_waiting(hussh_channel *channel) {
  hussh_link *link = channel->link;
  int answers = channel->requests - channel->replies;
  link->waiting -= (uint32_t)((channel->state == HUSSH_CH_OPENING) + (answers > 0 ? answers : 0) +
                              channel->running);
  channel->requests = channel->replies;
  channel->running = 0;
}

void channel_destroy(hussh_channel *channel) {
  hussh_link *link = channel->link;
  if (channel->endpoint)
    endpoint_over(channel->endpoint, ECONNABORTED);
  channel_stop_waiting(channel);
  channel_unlist(channel);
  link_forget_event(link, channel->token);
  link->channels[channel->local_id] = NULL;
  if (channel->local_id < link->channel_free_hint)
    link->channel_free_hint = channel->local_id;
  link->channel_live--;
  if (channel->lingers)
    link->lingering--;
  queue_clear(&channel->rx);
  queue_clear(&channel->rx_err);
  queue_clear(&channel->order);
  queue_clear(&channel->tx);
  free(channel);
  link_count(-1);
}

int channel_gone(hussh_channel *channel) {
  if (channel->abandoned &&
      (channel->state == HUSSH_CH_REFUSED || channel->state == HUSSH_CH_DEAD ||
       (channel->state == HUSSH_CH_UNHEARD && !channel->overtaken) ||
       (channel->closed && channel->close_sent))) {
    channel_destroy(channel);
    return 1;
  }
  return 0;
}

void channel_child_eof(hussh_channel *channel) {
  if (channel->child && !channel->child->rx_eof) {
    channel->child->rx_eof = 1;
    link_ready(channel->child);
  }
}

/* ---- failing ------------------------------------------------------------- */

/* The channels of a dead link wait for nothing more, and links over them have
 * no more input. */
static void channels_fail(hussh_link *link) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++) {
    hussh_channel *channel = link->channels[i];
    if (!channel)
      continue;
    channel_stop_waiting(channel);
    channel->state = HUSSH_CH_DEAD;
    if (channel->endpoint)
      endpoint_over(channel->endpoint, ECONNABORTED);
    channel_child_eof(channel);
    channel_changed(channel);
    channel_gone(channel);
  }
}

void copy_text(char *to, size_t size, const void *text, size_t len) {
  size_t i;
  if (len >= size)
    len = size - 1;
  memcpy(to, text, len);
  to[len] = '\0';
  for (i = 0; i < len; i++)
    if ((unsigned char)to[i] < ' ' || to[i] == 0x7f)
      to[i] = ' ';
}

void link_fail(hussh_link *link, int dead, int code, const char *text, size_t text_len) {
  if (link->dead)
    return;
  link->dead = dead;
  link->code = code;
  copy_text(link->text, sizeof(link->text), text, text_len);
  channels_fail(link);
  link_changed(link);
}

void link_fail_text(hussh_link *link, int dead, int code, const char *text) {
  link_fail(link, dead, code, text, strlen(text));
}

void link_out_of_memory(hussh_link *link) {
  link_fail_text(link, HUSSH_DEAD_MEMORY, 0, "out of memory");
}

/* Marks a link, and the links over it, that no pump will reach again: they cannot
 * find out by themselves. */
static void cut_off(hussh_link *link) {
  uint32_t i;
  link_fail_text(link, HUSSH_DEAD_KILLED, 0, "closed");
  for (i = 0; i < link->channel_slots; i++)
    if (link->channels[i] && link->channels[i]->child)
      cut_off(link->channels[i]->child);
}

void channels_free(hussh_link *link) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++)
    if (link->channels[i]) {
      hussh_link *child = link->channels[i]->child;
      if (child) {
        cut_off(child);
        child->outer = NULL;
      }
      channel_destroy(link->channels[i]);
    }
  free(link->channels);
  link->channels = NULL;
  link->channel_slots = 0;
}
