/* message_hook.c - what libssh2's hook hands us, and what we send as whole messages.
 *
 * Messages 50 to 79 are kept for the authentication above; 80 to 127 go to
 * channel_recv.c; of those below 50 libssh2 gets what it understands, within
 * bounds.
 */
#include "link_priv.h"

#include "transport.h"

#define ANSWERS_MAX ((size_t)1 << 20)
#define MESSAGES_MAX ((size_t)2 << 20)
/* More than one pump reads, so that only banners that nobody takes meet it. */
#define BANNERS_MAX ((size_t)3 << 19)
#define KEX_PACKETS_MAX 64
#define KEX_BYTES_MAX (512 << 10)

int link_in_kex(const hussh_link *link) {
  return (link->session->state & LIBSSH2_STATE_EXCHANGING_KEYS) != 0;
}

int link_emit(hussh_link *link, const void *head, size_t head_len, const void *body,
              size_t body_len) {
  int rc;
  if (link->dead)
    return HUSSH_E_DEAD;
  if (link_in_kex(link) || link->pending.len) {
    unsigned char length[4];
    put_u32(length, (uint32_t)(head_len + body_len));
    if (queue_append(&link->pending, length, 4) ||
        queue_append(&link->pending, head, head_len) ||
        queue_append(&link->pending, body, body_len)) {
      link_fail_text(link, HUSSH_DEAD_MEMORY, 0, "out of memory");
      return HUSSH_E_MEMORY;
    }
    return 0;
  }
  rc = _libssh2_transport_send(link->session, head, head_len, body, body_len);
  if (rc) {
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, rc, "a message could not be encrypted");
    return HUSSH_E_DEAD;
  }
  return 0;
}

void link_answer(hussh_link *link, const void *message, size_t len) {
  if (link->pending.len) {
    link->pending_answers += 4 + len;
    if (link->pending_answers > ANSWERS_MAX) {
      link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0,
                     "the peer asked for too many answers during a key exchange");
      return;
    }
  }
  link_emit(link, message, len, NULL, 0);
}

void link_send_pending(hussh_link *link) {
  while (link->pending.len && !link->dead && !link_in_kex(link)) {
    size_t len = get_u32(queue_head(&link->pending));
    int rc = _libssh2_transport_send(link->session, queue_head(&link->pending) + 4, len, NULL, 0);
    if (rc) {
      link_fail_text(link, HUSSH_DEAD_PROTOCOL, rc, "a message could not be encrypted");
      return;
    }
    queue_drop(&link->pending, len + 4);
  }
  if (!link->pending.len)
    link->pending_answers = 0;
}

static void keep_message(hussh_link *link, const unsigned char *message, size_t len) {
  unsigned char length[4];
  put_u32(length, (uint32_t)len);
  if (message[0] == MSG_USERAUTH_BANNER && link->messages.len + len > BANNERS_MAX)
    return; /* the user is asked something, or is slow to take the ones before */
  if (link->messages.len + len > MESSAGES_MAX) {
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "too many authentication messages");
    return;
  }
  if (queue_append(&link->messages, length, 4) || queue_append(&link->messages, message, len)) {
    link_fail_text(link, HUSSH_DEAD_MEMORY, 0, "out of memory");
    return;
  }
  link->message_count++;
  link_changed(link);
}

/* Messages 50 to 79 (RFC 4252).  A success that was not asked for is no
 * success; with compression "after authentication" libssh2 must know of the
 * real one before it reads the next packet.  Several requests may be on the way
 * at once, and each gets one final answer, but for one that was answered by 60
 * (go on): the next request takes its place, see hussh_link_send. */
static void auth_message(hussh_link *link, const unsigned char *message, size_t len) {
  if (link->authenticated)
    return;
  if (message[0] == MSG_USERAUTH_SUCCESS) {
    if (!link->auth_asked)
      return;
    link->authenticated = 1;
    link->session->state |= LIBSSH2_STATE_AUTHENTICATED;
  } else if (message[0] == MSG_USERAUTH_FAILURE) {
    link->auth_asked -= link->auth_asked > 0;
    link->auth_more = 0;
  } else if (message[0] == MSG_USERAUTH_60) {
    link->auth_more = link->auth_asked > 0;
  }
  keep_message(link, message, len);
}

/* Messages below 50.  libssh2 would keep those that it does not expect for
 * ever; outside of a key exchange only KEXINIT may start something. */
static int transport_message(hussh_link *link, const unsigned char *message, size_t len) {
  unsigned char reply[5];
  switch (message[0]) {
  case MSG_DISCONNECT: case MSG_IGNORE: case MSG_DEBUG: case MSG_EXT_INFO:
    return 0;
  case MSG_UNIMPLEMENTED:
    /* Which message it means is not looked at: global requests are all that we
     * send after the login and that a server may not know. */
    if (link->authenticated)
      link_global_answered(link);
    return 1;
  case MSG_SERVICE_ACCEPT:
    return link->handshake_done;
  case MSG_KEXINIT:
    if (link->session->state & LIBSSH2_STATE_INITIAL_KEX) {
      queue_clear(&link->peer_kexinit);
      if (queue_append(&link->peer_kexinit, message, len))
        link_fail_text(link, HUSSH_DEAD_MEMORY, 0, "out of memory");
    }
    break;
  default:
    if (message[0] >= MSG_KEXINIT && link_in_kex(link))
      break;
    if (link->session->state & LIBSSH2_STATE_INITIAL_KEX)
      return 0; /* strict kex: libssh2 ends it */
    reply[0] = MSG_UNIMPLEMENTED; /* RFC 4253 section 11.4 */
    put_u32(reply + 1, link->session->remote.seqno - 1);
    link_answer(link, reply, sizeof(reply));
    return 1;
  }
  link->kex_bytes += (int)len;
  if (++link->kex_packets > KEX_PACKETS_MAX || link->kex_bytes > KEX_BYTES_MAX) {
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "too many messages in one key exchange");
    return 1;
  }
  return 0;
}

int link_message_hook(LIBSSH2_SESSION *session, const unsigned char *message, size_t len) {
  hussh_link *link = session->abstract;
  if (link->dead)
    return 1;
  link->packets++;
  if (message[0] < MSG_USERAUTH_FIRST)
    return transport_message(link, message, len);
  if (session->state & LIBSSH2_STATE_INITIAL_KEX) {
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "a message in the middle of the first key exchange");
    return 1;
  }
  if (message[0] < MSG_CONNECTION_FIRST)
    auth_message(link, message, len);
  else if (link->authenticated)
    channels_message(link, message, len);
  else
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "a channel message before the login");
  return 1;
}

int hussh_link_send(hussh_link *link, const void *message, size_t len) {
  unsigned char type = len ? *(const unsigned char *)message : 0;
  if (link->dead)
    return HUSSH_E_DEAD;
  if (type < MSG_USERAUTH_FIRST || len > MESSAGE_MAX || link->phase < HUSSH_HOSTKEY ||
      (type >= MSG_CONNECTION_FIRST && !link->authenticated))
    return HUSSH_E_STATE;
  if (type == MSG_USERAUTH_REQUEST) {
    link->auth_asked += !link->auth_more;
    link->auth_more = 0;
  }
  if (type == MSG_GLOBAL_REQUEST)
    link->globals_asked++;
  link->nudges = 0;
  return link_emit(link, message, len, NULL, 0);
}

ssize_t hussh_link_message(hussh_link *link, void *message, size_t size) {
  size_t len;
  if (!link->message_count)
    return HUSSH_E_AGAIN;
  len = get_u32(queue_head(&link->messages));
  if (len <= size) {
    memcpy(message, queue_head(&link->messages) + 4, len);
    queue_drop(&link->messages, len + 4);
    link->message_count--;
  }
  return (ssize_t)len;
}

