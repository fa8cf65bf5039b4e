/* messages.h - numbers of messages (RFC 4250 section 4.1.2) and 32-bit numbers in them.
 *
 * All files of the shim that make or read a message use it.  It keeps no state.
 */
#ifndef HUSSH_MESSAGES_H
#define HUSSH_MESSAGES_H

#include <stdint.h>

/* Longest message, padded, that OpenSSH takes (patch 0050). */
#define MESSAGE_MAX ((256u << 10) - 32)

/* They are not called SSH_MSG_* because libssh2_priv.h has macros of those names. */
enum {
  MSG_DISCONNECT = 1, MSG_IGNORE, MSG_UNIMPLEMENTED, MSG_DEBUG, MSG_SERVICE_REQUEST,
  MSG_SERVICE_ACCEPT, MSG_EXT_INFO,
  MSG_KEXINIT = 20, MSG_NEWKEYS,
  MSG_KEX_REPLY = 31, MSG_KEX_GEX_REPLY = 33,
  MSG_USERAUTH_REQUEST = 50, MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS, MSG_USERAUTH_BANNER,
  MSG_USERAUTH_60 = 60, /* go on: what it says depends on the method */
  MSG_GLOBAL_REQUEST = 80, MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE,
  MSG_CHANNEL_OPEN = 90, MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE,
  MSG_CHANNEL_WINDOW_ADJUST, MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_EOF,
  MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST, MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE,
  /* where the kinds begin */
  MSG_USERAUTH_FIRST = 50, MSG_CONNECTION_FIRST = 80
};

static inline uint32_t get_u32(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Returns where the next field goes. */
static inline unsigned char *put_u32(unsigned char *p, uint32_t value) {
  p[0] = (unsigned char)(value >> 24);
  p[1] = (unsigned char)(value >> 16);
  p[2] = (unsigned char)(value >> 8);
  p[3] = (unsigned char)value;
  return p + 4;
}

#endif
