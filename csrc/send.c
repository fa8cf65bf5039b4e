/* send.c - whole messages to the peer, and those that wait for the end of a key exchange.
 *
 * All messages that the shim itself makes go this way: libssh2 encrypts them and
 * its send callback queues them.  While new keys are exchanged the peer may be sent
 * messages of the key exchange only (RFC 4253 section 7.1), so all others wait in
 * `pending`, in order.  The pump sends them when the exchange has ended.
 */
#include "send.h"

#include "messages.h"
#include "transport.h"

/* Most bytes of answers that wait: a peer could ask for any number of them. */
#define ANSWERS_MAX ((size_t)1 << 20)

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
      link_out_of_memory(link);
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

void link_answer_unimplemented(hussh_link *link) {
  unsigned char message[5];
  message[0] = MSG_UNIMPLEMENTED;
  put_u32(message + 1, link->session->remote.seqno - 1);
  link_answer(link, message, sizeof(message));
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
