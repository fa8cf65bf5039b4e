/* endpoint.c - local sockets that the pump serves besides its source: the local ends of tunnels.
 *
 * An endpoint is a descriptor of the caller.  One epoll descriptor watches all of them
 * in a tree.  An endpoint is a listener, a connection whose request the owner still
 * reads, or, once it is joined to a channel, one end of a tunnel.  The driver polls the
 * epoll descriptor along with the root's source, and the pump asks it which endpoints
 * are ready.
 *
 * Theory of operation
 *
 * Watching is edge-triggered: `readable` and `writable` stay set until the kernel
 * says EAGAIN or moves less than was asked for.  So no system call changes what is
 * watched, whatever back-pressure does.  A joined endpoint is on the ready list while
 * it may be able to move.  Moving goes on until something is missing, and each of
 * these has one place that puts the endpoint back on the list:
 *
 *   - bytes from the socket, or room in it: an event of epoll, in poll_sockets();
 *   - bytes, EOF or CLOSE from the peer: channel_recv.c;
 *   - the peer's window, room in the link's tx queue, the end of a key exchange:
 *     channel_flush(), which the pump calls for each of them (see pump.c).
 *
 * Bounds: a socket is read only when its bytes can become packets at once, so that
 * nothing piles up towards the peer; towards the socket the channel's receive window
 * is the bound.  No endpoint moves more than SLICE bytes in a direction before the
 * others have had their turn.
 */
#include "endpoint.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "send.h"

#define SLICE ((size_t)256 << 10)
#define EVENTS_AT_ONCE 64

/* ---- moving -------------------------------------------------------------- */

/* Nothing moves any more.  The owner hears of it, and closes the socket. */
static void finish(hussh_endpoint *endpoint, int error) {
  hussh_channel *channel = endpoint->channel;
  endpoint_over(endpoint, error);
  hussh_channel_close(channel);
}

/* How many bytes the channel can send at once. */
static size_t room_of(hussh_channel *channel) {
  hussh_link *link = channel->link;
  if (link->dead || channel->close_sent || channel->closed || channel->tx.len)
    return 0;
  if (link_in_kex(link) || link->pending.len || link->tx.len >= TX_HIGH) {
    link->blocked = 1;
    return 0;
  }
  return channel->send_window;
}

static size_t move_to_peer(hussh_endpoint *endpoint) {
  hussh_channel *channel = endpoint->channel;
  size_t moved = 0;
  while (!endpoint->over && endpoint->readable && !endpoint->read_eof && moved < SLICE) {
    unsigned char *buffer = endpoint->root->endpoints->buffer;
    size_t room = room_of(channel);
    ssize_t n;
    if (!room)
      break;
    if (room > SLICE - moved)
      room = SLICE - moved;
    n = recv(endpoint->fd, buffer, room, 0);
    if (n > 0) {
      if ((size_t)n < room && !endpoint->hung_up)
        endpoint->readable = 0;
      moved += (size_t)n;
      if (hussh_channel_write(channel, buffer, (size_t)n) == n)
        channel_flush(channel);
    } else if (!n) {
      endpoint->read_eof = 1;
      hussh_channel_eof(channel);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      endpoint->readable = endpoint->hung_up = 0;
    } else if (errno != EINTR) {
      finish(endpoint, errno);
    }
  }
  endpoint->sent += moved;
  return moved;
}

static size_t move_from_peer(hussh_endpoint *endpoint) {
  hussh_channel *channel = endpoint->channel;
  size_t moved = 0;
  while (!endpoint->over && endpoint->writable && channel->rx.len && moved < SLICE) {
    size_t want = channel->rx.len < SLICE - moved ? channel->rx.len : SLICE - moved;
    ssize_t n = send(endpoint->fd, queue_head(&channel->rx), want, MSG_NOSIGNAL);
    if (n > 0) {
      if ((size_t)n < want)
        endpoint->writable = 0;
      moved += (size_t)n;
      queue_drop(&channel->rx, (size_t)n);
      channel_credit(channel, (size_t)n);
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      endpoint->writable = 0;
    } else if (n < 0 && errno != EINTR) {
      finish(endpoint, errno);
    }
  }
  endpoint->received += moved;
  return moved;
}

static size_t move(hussh_endpoint *endpoint) {
  hussh_channel *channel = endpoint->channel;
  size_t down = move_from_peer(endpoint), up;
  if (endpoint->over)
    return down;
  if (!channel->rx.len && channel->closed) {
    finish(endpoint, 0);
    return down;
  }
  if (!channel->rx.len && channel->eof && !endpoint->write_shut) {
    endpoint->write_shut = 1;
    shutdown(endpoint->fd, SHUT_WR);
  }
  up = move_to_peer(endpoint);
  if (!endpoint->over && endpoint->write_shut && endpoint->read_eof && channel->eof_sent)
    finish(endpoint, 0);
  endpoint->running = 0;
  if (down >= SLICE || up >= SLICE)
    endpoint_ready(endpoint); /* behind the others */
  return down + up;
}

/* Asks which are ready. */
static void poll_sockets(hussh_link *root) {
  struct endpoints *of = root->endpoints;
  struct epoll_event events[EVENTS_AT_ONCE];
  int count, i;
  do {
    count = epoll_wait(of->epoll, events, EVENTS_AT_ONCE, 0);
    for (i = 0; i < count; i++) {
      hussh_endpoint *endpoint = events[i].data.ptr;
      uint32_t what = events[i].events;
      if (endpoint->over)
        continue;
      endpoint->readable |= (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      endpoint->writable |= (what & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
      endpoint->hung_up |= (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      if (!endpoint->channel) {
        if (what & ~(uint32_t)EPOLLOUT)
          endpoint_changed(endpoint);
      } else if (what & EPOLLERR) { /* it ends also where nothing would be read or written now */
        int error = 0;
        socklen_t len = sizeof(error);
        getsockopt(endpoint->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        finish(endpoint, error ? error : ECONNRESET);
      } else {
        endpoint_ready(endpoint);
      }
    }
  } while (count == EVENTS_AT_ONCE);
}

size_t endpoints_run(hussh_link *root) {
  struct endpoints *of = root->endpoints;
  size_t moved = 0, turns;
  if (!of || !of->all)
    return 0;
  poll_sockets(root);
  /* What is put on the list meanwhile has its turn after the next flush. */
  for (turns = of->ready_count; turns && of->ready_head; turns--) {
    hussh_endpoint *endpoint = of->ready_head;
    endpoint_unlist(endpoint);
    endpoint->running = 1;
    moved += move(endpoint);
    endpoint->running = 0;
  }
  root->moved += moved;
  return moved;
}

int endpoints_wait(const hussh_link *root) {
  return root->endpoints && root->endpoints->ready_head;
}

/* ---- the owner's calls --------------------------------------------------- */

int hussh_endpoints_fd(const hussh_link *root) {
  return root->endpoints ? root->endpoints->epoll : -1;
}

/* The tree has what it needs for endpoints; -1: errno says why not. */
static int prepare(hussh_link *root) {
  struct endpoints *of = root->endpoints;
  if (of)
    return 0;
  of = calloc(1, sizeof(*of));
  if (of)
    of->buffer = malloc(SLICE);
  if (!of || !of->buffer) {
    free(of);
    errno = ENOMEM;
    return -1;
  }
  of->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (of->epoll < 0) {
    int error = errno;
    free(of->buffer);
    free(of);
    errno = error;
    return -1;
  }
  root->endpoints = of;
  return 0;
}

hussh_endpoint *hussh_endpoint_new(hussh_link *root, int fd) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
  hussh_endpoint *endpoint;
  if (root->root != root || root->dead) {
    errno = ECONNABORTED;
    return NULL;
  }
  if (prepare(root))
    return NULL;
  endpoint = calloc(1, sizeof(*endpoint));
  if (endpoint)
    endpoint->token = link_token(root);
  if (!endpoint || !endpoint->token) {
    free(endpoint);
    errno = ENOMEM;
    return NULL;
  }
  event.data.ptr = endpoint;
  if (epoll_ctl(root->endpoints->epoll, EPOLL_CTL_ADD, fd, &event)) {
    int error = errno;
    root->objects--;
    free(endpoint);
    errno = error;
    return NULL;
  }
  endpoint->root = root;
  endpoint->fd = fd;
  endpoint->next = root->endpoints->all;
  if (endpoint->next)
    endpoint->next->before = endpoint;
  root->endpoints->all = endpoint;
  link_count(1);
  return endpoint;
}

uint64_t hussh_endpoint_token(const hussh_endpoint *endpoint) {
  return endpoint->token;
}

int hussh_endpoint_join(hussh_endpoint *endpoint, hussh_channel *channel) {
  if (endpoint->joined || endpoint->over || !endpoint->root || channel->endpoint ||
      channel->child || channel->state != HUSSH_CH_OPEN ||
      channel->link->root != endpoint->root)
    return HUSSH_E_STATE;
  endpoint->channel = channel;
  channel->endpoint = endpoint;
  channel->longest_message = 0;
  endpoint->joined = 1;
  /* Maybe they are: trying tells. */
  endpoint->readable = endpoint->writable = endpoint->hung_up = 1;
  endpoint_ready(endpoint);
  return 0;
}

void hussh_endpoint_get_info(const hussh_endpoint *endpoint, hussh_endpoint_info *info) {
  info->over = endpoint->over;
  info->error = endpoint->error;
  info->received = endpoint->received;
  info->sent = endpoint->sent;
}

/* Takes it from its tree. */
static void forget(hussh_endpoint *endpoint) {
  hussh_link *root = endpoint->root;
  endpoint_unlist(endpoint);
  if (endpoint->before)
    endpoint->before->next = endpoint->next;
  else
    root->endpoints->all = endpoint->next;
  if (endpoint->next)
    endpoint->next->before = endpoint->before;
  link_forget_event(root, endpoint->token);
  epoll_ctl(root->endpoints->epoll, EPOLL_CTL_DEL, endpoint->fd, NULL);
  endpoint->root = NULL;
}

void hussh_endpoint_free(hussh_endpoint *endpoint) {
  if (!endpoint)
    return;
  if (endpoint->channel)
    finish(endpoint, ECONNABORTED);
  if (endpoint->root)
    forget(endpoint);
  link_count(-1);
  free(endpoint);
}

void hussh_endpoints_close(hussh_link *root) {
  struct endpoints *of = root->endpoints;
  if (!of)
    return;
  while (of->all) {
    hussh_endpoint *endpoint = of->all;
    if (endpoint->channel)
      finish(endpoint, ECONNABORTED);
    endpoint->over = 1;
    forget(endpoint);
  }
  close(of->epoll);
  free(of->buffer);
  free(of);
  root->endpoints = NULL;
}
