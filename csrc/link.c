/* link.c - makes and ends links, serves libssh2's callbacks, and tells what a link knows.
 *
 * A link owns a libssh2 session.  That session sends and receives through the callbacks
 * here, which touch the link's queues only; pump.c moves the bytes on.
 */
#include "channel.h"
#include "endpoint.h"
#include "kex_work.h"
#include "message_hook.h"
#include "send.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "session.h"

/* ---- libssh2's callbacks ------------------------------------------------- */

static LIBSSH2_ALLOC_FUNC(on_alloc) {
  hussh_link *link = *abstract;
  /* Not calloc, also for the big struct: that one is mostly buffers, whose pages
   * cost nothing until they are used (patch 0013 clears the rest). */
  void *made = malloc(count ? count : 1);
  link->blocks += made != NULL;
  link->alloc_failed |= !made;
  return made;
}

static LIBSSH2_REALLOC_FUNC(on_realloc) {
  hussh_link *link = *abstract;
  void *made = realloc(ptr, count ? count : 1);
  link->blocks += made && !ptr;
  link->alloc_failed |= !made;
  return made;
}

static LIBSSH2_FREE_FUNC(on_free) {
  hussh_link *link = *abstract;
  link->blocks -= ptr != NULL;
  free(ptr);
}

static LIBSSH2_SEND_FUNC(on_send) {
  hussh_link *link = *abstract;
  (void)socket;
  (void)flags;
  if (link->dead)
    return (ssize_t)length;
  if (queue_append(&link->tx, buffer, length)) {
    link_out_of_memory(link);
    return -ENOMEM;
  }
  link->queued_since = 1;
  link->root->moved += length;
  if (link->outer)
    channel_dirty(link->outer);
  return (ssize_t)length;
}

static LIBSSH2_RECV_FUNC(on_recv) {
  hussh_link *link = *abstract;
  size_t n;
  (void)socket;
  (void)flags;
  if (link->dead)
    return -ECONNRESET;
  if (!link->recv_enabled || !link->rx.len) {
    link->recv_would_block = 1;
    if (!link->recv_enabled || !link->rx_eof)
      return -EAGAIN;
    link->ended = 1;
    return 0;
  }
  n = queue_take(&link->rx, buffer, length);
  if (link->preamble_len < sizeof(link->preamble)) {
    size_t room = sizeof(link->preamble) - link->preamble_len;
    memcpy(link->preamble + link->preamble_len, buffer, n < room ? n : room);
    link->preamble_len += n < room ? n : room;
  }
  link->received += n;
  link->root->moved += n;
  link->got += n;
  link->queued_since = 0;
  if (link->outer)
    channel_credit(link->outer, n);
  return (ssize_t)n;
}

static LIBSSH2_DISCONNECT_FUNC(on_disconnect) {
  hussh_link *link = *abstract;
  (void)session;
  (void)language;
  (void)language_len;
  link_fail(link, HUSSH_DEAD_PEER, reason, message ? message : "",
            message && message_len > 0 ? (size_t)message_len : 0);
}

/* ---- making and ending --------------------------------------------------- */

static hussh_link *link_new(enum source source, hussh_channel *outer) {
  hussh_link *link = calloc(1, sizeof(*link));
  if (!link)
    return NULL;
  link->source = source;
  link->root = link;
  link->read_fd = link->write_fd = -1;
  if (outer) {
    link->outer = outer;
    link->parent = outer->link;
    link->root = outer->link->root;
  }
  link->refs = 1;
  link->token = link_token(link);
  link->session = libssh2_session_init_ex(on_alloc, on_free, on_realloc, link);
  if (!link->token || !link->session) {
    if (link->token)
      link->root->objects--;
    if (link->session)
      libssh2_session_free(link->session);
    if (link->root == link)
      free(link->events);
    free(link);
    return NULL;
  }
  libssh2_session_set_blocking(link->session, 0);
  libssh2_session_set_read_timeout(link->session, 1000000000L); /* the timers are ours */
  /* The cast is libssh2's own interface: one setter for all callback types. */
  libssh2_session_callback_set2(link->session, LIBSSH2_CALLBACK_SEND,
                                (libssh2_cb_generic *)(void (*)(void))on_send);
  libssh2_session_callback_set2(link->session, LIBSSH2_CALLBACK_RECV,
                                (libssh2_cb_generic *)(void (*)(void))on_recv);
  libssh2_session_callback_set2(link->session, LIBSSH2_CALLBACK_DISCONNECT,
                                (libssh2_cb_generic *)(void (*)(void))on_disconnect);
  link->session->hussh_message = link_message_hook;
  if (link->parent)
    link->parent->refs++;
  link_count(1);
  link_ready(link); /* the first pump sends our banner */
  return link;
}

hussh_link *hussh_link_over_memory(void) {
  return link_new(SOURCE_MEMORY, NULL);
}

hussh_link *hussh_link_over_fds(int read_fd, int write_fd) {
  static const int on = 1;
  hussh_link *link = link_new(SOURCE_FDS, NULL);
  if (!link)
    return NULL;
  link->read_fd = read_fd;
  link->write_fd = write_fd;
  link->tcp = setsockopt(write_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0;
  return link;
}

void hussh_fd_shutdown(int fd) {
  shutdown(fd, SHUT_RDWR); /* an error means that the peer has gone first */
}

hussh_link *hussh_link_over_channel(hussh_channel *outer) {
  hussh_link *link;
  if (outer->child || outer->state != HUSSH_CH_OPEN)
    return NULL;
  link = link_new(SOURCE_CHANNEL, outer);
  if (!link)
    return NULL;
  outer->child = link;
  /* Early bytes: a server's banner may have come with the confirmation. */
  link->rx = outer->rx;
  memset(&outer->rx, 0, sizeof(outer->rx));
  link->rx_eof = outer->eof || outer->closed || outer->link->dead;
  return link;
}

/* The struct of a link outlives its owner while links over it remain: theirs
 * may be let go in any order. */
static void unref(hussh_link *link) {
  while (link && --link->refs == 0) {
    hussh_link *parent = link->parent;
    if (link->root == link)
      free(link->events);
    link_count((ptrdiff_t)link->blocks - 1);
    free(link);
    link = parent;
  }
}

void hussh_link_free(hussh_link *link) {
  if (!link)
    return;
  hussh_link_kill(link);
  channels_free(link);
  if (link->outer)
    link->outer->child = NULL;
  link_unlist(link);
  link_forget_event(link, link->token);
  libssh2_session_free(link->session); /* dead: recv fails, send discards: one call */
  work_forget(link);
  EVP_PKEY_free(link->kem_key);
  queue_clear(&link->rx);
  queue_clear(&link->tx);
  queue_clear(&link->pending);
  queue_clear(&link->messages);
  queue_clear(&link->peer_kexinit);
  queue_clear(&link->hostkey_signature);
  queue_clear(&link->offers);
  hussh_endpoints_close(link);
  unref(link);
}

void hussh_link_kill(hussh_link *link) {
  link_fail_text(link, HUSSH_DEAD_KILLED, 0, "closed");
  queue_clear(&link->rx);
  queue_clear(&link->tx);
}

void hussh_link_fail(hussh_link *link, int code, const char *text) {
  link_fail_text(link, HUSSH_DEAD_OS, code, text);
  queue_clear(&link->rx);
  queue_clear(&link->tx);
}

void hussh_link_notify(hussh_link *link) {
  link_changed(link);
}

int hussh_link_disconnect(hussh_link *link, int reason, const char *text) {
  if (link->dead)
    return HUSSH_E_DEAD;
  if (link->phase < HUSSH_KEX || link_in_kex(link) || strlen(text) > 200)
    return HUSSH_E_STATE;
  libssh2_session_disconnect_ex(link->session, reason, text, "");
  return 0;
}

int hussh_link_prefer(hussh_link *link, int kind, const char *names) {
  int rc = libssh2_session_method_pref(link->session, kind, names);
  return rc ? HUSSH_E_STATE : 0;
}

int hussh_link_compress(hussh_link *link) {
  return libssh2_session_flag(link->session, LIBSSH2_FLAG_COMPRESS, 1) ? HUSSH_E_STATE : 0;
}

int hussh_link_supported(hussh_link *link, int kind, char *names, size_t size) {
  const char **algs = NULL;
  int count = libssh2_session_supported_algs(link->session, kind, &algs), i;
  size_t len = 0;
  for (i = 0; i < count; i++) {
    size_t n = strlen(algs[i]);
    if (len + n + 2 > size)
      break;
    if (len)
      names[len++] = ',';
    memcpy(names + len, algs[i], n);
    len += n;
  }
  if (size)
    names[len] = '\0';
  if (count > 0)
    libssh2_free(link->session, (void *)algs);
  return (int)len;
}

/* ---- what a link knows --------------------------------------------------- */

uint64_t hussh_link_token(const hussh_link *link) {
  return link->token;
}

void hussh_link_get_info(const hussh_link *link, hussh_link_info *info) {
  info->phase = link->phase;
  info->dead = link->dead;
  info->code = link->code;
  info->messages = link->message_count;
  info->replies = link->global_replies;
  info->rekeying = link_in_kex(link);
  info->rekeys = link->rekeys;
  info->queued = link->tx.len + link->pending.len;
  info->received = link->received;
  info->sent = link->sent;
  info->packets = link->packets;
  info->unasked = link->unasked;
  memcpy(info->unasked_kind, link->unasked_kind, sizeof(info->unasked_kind));
  memcpy(info->text, link->text, sizeof(info->text));
}

const void *hussh_link_hostkey(const hussh_link *link, size_t *len) {
  *len = link->session->server_hostkey_len;
  return link->session->server_hostkey;
}

const void *hussh_link_session_id(const hussh_link *link, size_t *len) {
  *len = link->session->session_id_len;
  return link->session->session_id;
}

const void *hussh_link_hostkey_signature(const hussh_link *link, size_t *len) {
  *len = link->hostkey_signature.len;
  return queue_head(&link->hostkey_signature);
}

const void *hussh_link_peer_kexinit(const hussh_link *link, size_t *len) {
  *len = link->peer_kexinit.len;
  return queue_head(&link->peer_kexinit);
}

const char *hussh_link_method(const hussh_link *link, int kind) {
  if (link_in_kex(link) && kind == LIBSSH2_METHOD_KEX && link->kex_name)
    return link->kex_name; /* the session has none while another is agreed on */
  if (link_in_kex(link) && kind == LIBSSH2_METHOD_HOSTKEY && link->hostkey_name)
    return link->hostkey_name;
  return libssh2_session_methods(link->session, kind);
}

const char *hussh_link_banner(const hussh_link *link) {
  return libssh2_session_banner_get(link->session);
}

const void *hussh_link_preamble(const hussh_link *link, size_t *len) {
  *len = link->preamble_len;
  return link->preamble;
}

const char *hussh_link_sig_algs(const hussh_link *link) {
  return link->session->server_sign_algorithms;
}
