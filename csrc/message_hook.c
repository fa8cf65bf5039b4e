/* message_hook.c - takes each message that libssh2 has decrypted, and sends Python's messages.
 *
 * Messages 50 to 79 are kept until Python, which does the authentication, takes them.
 * Messages from 80 on go to channel_recv.c.  Of those below 50 libssh2 gets the ones
 * that it understands and only so many of them, because it would keep them all.
 */
#include "message_hook.h"

#include "channel_recv.h"
#include "messages.h"
#include "send.h"

#define MESSAGES_MAX ((size_t)2 << 20)
/* More than one pump reads, so that only banners that nobody takes meet it. */
#define BANNERS_MAX ((size_t)3 << 19)
#define AUTH_QUERIES_MAX 64 /* bits of auth_queries */
#define KEX_PACKETS_MAX 64
#define KEX_BYTES_MAX (512 << 10)

static void keep_message(hussh_link *link, const unsigned char *message, size_t len) {
  unsigned char length[4];
  put_u32(length, (uint32_t)len);
  if (message[0] == MSG_USERAUTH_BANNER && link->messages.len + len > BANNERS_MAX)
    return; /* Python has not taken the ones before: it asks the user, or is slow */
  if (link->messages.len + len > MESSAGES_MAX) {
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "too many authentication messages");
    return;
  }
  if (queue_append(&link->messages, length, 4) || queue_append(&link->messages, message, len)) {
    link_out_of_memory(link);
    return;
  }
  link->message_count++;
  link_changed(link);
}

/* The oldest request without a final answer has got it. */
static void auth_answered(hussh_link *link) {
  link->auth_asked -= link->auth_asked > 0;
  link->auth_queries >>= 1;
  link->auth_more = 0;
}

/* Messages 50 to 79 (RFC 4252).  A success without a request is ignored.  libssh2
 * must know of the real one before it reads the next packet, because compression may
 * begin there ("zlib@openssh.com").  Several requests may be on the way at once, and
 * each gets one final answer.  To a query whether a key would do, 60 is that answer
 * (section 7).  To others it means "go on", and the final answer belongs to the next
 * request, see hussh_link_send. */
static void auth_message(hussh_link *link, const unsigned char *message, size_t len) {
  if (link->authenticated)
    return;
  if (message[0] == MSG_USERAUTH_SUCCESS) {
    if (!link->auth_asked)
      return;
    link->authenticated = 1;
    link->session->state |= LIBSSH2_STATE_AUTHENTICATED;
  } else if (message[0] == MSG_USERAUTH_FAILURE) {
    auth_answered(link);
  } else if (message[0] == MSG_USERAUTH_60 && link->auth_queries & 1) {
    auth_answered(link);
  } else if (message[0] == MSG_USERAUTH_60) {
    link->auth_more = link->auth_asked > 0;
  }
  if (message[0] != MSG_USERAUTH_SUCCESS && message[0] != MSG_USERAUTH_BANNER &&
      (link->auth_more || !link->auth_asked))
    channels_unheard(link);
  keep_message(link, message, len);
}

/* The reply of a key exchange (RFC 4253 section 8, RFC 5656 section 4): host key, the
 * server's half, signature.  What has another form is not ours to judge: libssh2 does. */
static void keep_hostkey_signature(hussh_link *link, const unsigned char *message, size_t len) {
  const unsigned char *at = message + 1, *string = NULL;
  size_t left = len - 1, size = 0;
  int i;
  for (i = 0; i < 3; i++) {
    if (left < 4 || (size = get_u32(at)) > left - 4)
      return;
    string = at + 4;
    at = string + size;
    left -= 4 + size;
  }
  queue_clear(&link->hostkey_signature);
  if (!left && queue_append(&link->hostkey_signature, string, size))
    link_out_of_memory(link);
}

/* Messages below 50.  libssh2 would keep for ever those that it does not expect, so
 * outside of a key exchange it gets KEXINIT only. */
static int transport_message(hussh_link *link, const unsigned char *message, size_t len) {
  switch (message[0]) {
  case MSG_DISCONNECT: case MSG_IGNORE: case MSG_DEBUG: case MSG_EXT_INFO:
    return 0;
  case MSG_UNIMPLEMENTED:
    /* Opens, which may have come before the login was done, and global requests are
     * all that we send and that a server may not know. */
    if (len >= 5 && channels_unimplemented(link, get_u32(message + 1)))
      return 1;
    if (link->authenticated)
      link_global_answered(link, 0, 0);
    return 1;
  case MSG_SERVICE_ACCEPT:
    return link->handshake_done;
  case MSG_KEXINIT:
    if (link->session->state & LIBSSH2_STATE_INITIAL_KEX) {
      queue_clear(&link->peer_kexinit);
      if (queue_append(&link->peer_kexinit, message, len))
        link_out_of_memory(link);
    }
    break;
  case MSG_KEX_REPLY: case MSG_KEX_GEX_REPLY:
    if (link->session->state & LIBSSH2_STATE_INITIAL_KEX)
      keep_hostkey_signature(link, message, len);
    /* fall through */
  default:
    if (message[0] >= MSG_KEXINIT && link_in_kex(link))
      break;
    if (link->session->state & LIBSSH2_STATE_INITIAL_KEX)
      return 0; /* strict kex: libssh2 ends it */
    link_answer_unimplemented(link);
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
    link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0,
                   "a message in the middle of the first key exchange");
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

/* Whether a global request of ours asks for an answer (RFC 4254 section 4). */
static int wants_reply(const unsigned char *request, size_t len) {
  size_t name = len >= 5 ? get_u32(request + 1) : 0;
  return len > 5 && name <= len - 6 && request[5 + name] != 0;
}

/* Whether a login request only asks if a key would do (RFC 4252 section 7). */
static int is_query(const unsigned char *request, size_t len) {
  static const char method[] = "publickey";
  size_t at = 1, size = 0;
  int i;
  for (i = 0; i < 3; i++) { /* user, service, method */
    if (len - at < 4 || (size = get_u32(request + at)) > len - at - 4)
      return 0;
    at += 4 + size;
  }
  return at < len && size == sizeof(method) - 1 && !memcmp(request + at - size, method, size) &&
         !request[at];
}

int hussh_link_send(hussh_link *link, const void *message, size_t len) {
  unsigned char type = len ? *(const unsigned char *)message : 0;
  if (link->dead)
    return HUSSH_E_DEAD;
  if (type < MSG_USERAUTH_FIRST || len > MESSAGE_MAX || link->phase < HUSSH_HOSTKEY ||
      (type >= MSG_CONNECTION_FIRST && !link->authenticated))
    return HUSSH_E_STATE;
  if (type == MSG_USERAUTH_REQUEST) {
    if (!link->auth_more && is_query(message, len) && link->auth_asked < AUTH_QUERIES_MAX)
      link->auth_queries |= (uint64_t)1 << link->auth_asked;
    link->auth_asked += !link->auth_more;
    link->auth_more = 0;
  }
  if (type == MSG_GLOBAL_REQUEST && wants_reply(message, len))
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

