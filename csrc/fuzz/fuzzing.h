/* fuzzing.h - what the harnesses share: how they read their input, and messages made of it.
 *
 * An input is a program: a byte chooses the next operation, the bytes behind it are its
 * arguments.  An input that has ended gives zeros, so every input is a valid one.  Numbers and
 * texts are mostly chosen from those that matter to the protocol, by one byte each, so that a
 * mutation of the fuzzer leads from one to another.
 *
 * scripts/fuzz_seeds.py writes inputs of this form; it takes the operations' numbers from the
 * `enum { OP_... }` of each harness.
 */
#ifndef HUSSH_FUZZING_H
#define HUSSH_FUZZING_H

#include "../tests/testing.h"

struct input {
  const unsigned char *at;
  size_t left;
};

static inline unsigned take(struct input *in) {
  if (!in->left)
    return 0;
  in->left--;
  return *in->at++;
}

static inline unsigned take_16(struct input *in) {
  unsigned high = take(in);
  return high << 8 | take(in);
}

/* A number: below 192 itself, else one at which something happens, or any. */
static inline uint32_t take_number(struct input *in) {
  static const uint32_t edges[] = {
      255, 256, 1000, 4096, 16384, 32767, 32768, 35000, 65535, 65536, 100000, 1 << 20, 2 << 20,
      64 << 20, INT32_MAX, (uint32_t)INT32_MAX + 1, UINT32_MAX - 1, UINT32_MAX};
  unsigned first = take(in);
  if (first < 192)
    return first;
  if (first - 192 < sizeof(edges) / sizeof(*edges))
    return edges[first - 192];
  first = take_16(in);
  return (uint32_t)first << 16 | take_16(in);
}

/* Bytes of the input, at most 255; *len is set. */
static inline const unsigned char *take_bytes(struct input *in, size_t *len) {
  const unsigned char *bytes = in->at;
  *len = take(in);
  if (in->left) /* else the input ended with the length */
    bytes = in->at;
  if (*len > in->left)
    *len = in->left;
  in->at += *len;
  in->left -= *len;
  return bytes;
}

/* A name or text: a known one, or bytes of the input. */
static inline const void *take_text(struct input *in, size_t *len) {
  static const char *const known[] = {
      "", "session", "exit-status", "exit-signal", "direct-tcpip", "forwarded-tcpip", "x11",
      "auth-agent@openssh.com", "keepalive@openssh.com", "exec", "shell", "env", "signal", "TERM",
      "subsystem", "pty-req", "tcpip-forward", "hostkeys-00@openssh.com", "xon-xoff", "publickey",
      "password", "keyboard-interactive", "none", "ssh-userauth", "ssh-connection",
      "server-sig-algs", "eow@openssh.com", "window-change"};
  unsigned which = take(in);
  if (which < sizeof(known) / sizeof(*known)) {
    *len = strlen(known[which]);
    return known[which];
  }
  return take_bytes(in, len);
}

/* ---- messages ------------------------------------------------------------ */

/* Appends fields: n number, c number of a channel, b byte, B 0 or 1, t text, l list of texts,
 * z up to 64 KiB of `bulk` as a string, r bytes of the input as they are. */
static inline void put_fields(struct input *in, struct message *m, const char *format) {
  unsigned char number[4];
  for (; *format; format++) {
    const void *bytes;
    size_t len = 1;
    switch (*format) {
    case 'n': case 'c':
      put_u32(number, *format == 'c' ? take(in) % 16 : take_number(in));
      put(m, number, 4);
      break;
    case 'b': case 'B':
      number[0] = (unsigned char)(*format == 'B' ? take(in) & 1 : take(in));
      put(m, number, 1);
      break;
    case 'z':
      len = take_16(in);
      put_u32(number, (uint32_t)len);
      put(m, number, 4);
      put(m, bulk, len);
      break;
    case 'r':
      bytes = take_bytes(in, &len);
      put(m, bytes, len);
      break;
    default:
      bytes = take_text(in, &len);
      put_u32(number, (uint32_t)len);
      put(m, number, 4);
      put(m, bytes, len);
    }
  }
}

/* Lies about a message: cuts it, adds to it, or changes a byte.  Most first bytes do not. */
static inline void twist(struct input *in, struct message *m) {
  unsigned how = take(in), where;
  if (how < 224 || !m->len)
    return;
  where = take_16(in);
  if (how < 234)
    m->len = 1 + where % m->len;
  else if (how < 244)
    put(m, bulk, where % 300);
  else
    m->bytes[where % m->len] ^= (unsigned char)(1 + how % 16 * 17);
}

/* A message that a server may send after the key exchange. */
static inline void take_message(struct input *in, struct message *m) {
  static const struct {
    unsigned char type;
    const char *fields;
  } forms[] = {
      {MSG_CHANNEL_OPEN_CONFIRMATION, "cnnn"}, {MSG_CHANNEL_DATA, "cz"}, {MSG_CHANNEL_DATA, "ct"},
      {MSG_CHANNEL_EXTENDED_DATA, "cnz"}, {MSG_CHANNEL_WINDOW_ADJUST, "cn"},
      {MSG_CHANNEL_REQUEST, "ctBn"}, {MSG_CHANNEL_REQUEST, "ctBtBtt"}, {MSG_CHANNEL_SUCCESS, "c"},
      {MSG_CHANNEL_FAILURE, "c"}, {MSG_CHANNEL_EOF, "c"}, {MSG_CHANNEL_CLOSE, "c"},
      {MSG_CHANNEL_OPEN_FAILURE, "cntt"}, {MSG_CHANNEL_OPEN, "tnnntntn"},
      {MSG_GLOBAL_REQUEST, "tBtn"}, {MSG_REQUEST_SUCCESS, "n"}, {MSG_REQUEST_FAILURE, ""},
      {MSG_USERAUTH_SUCCESS, ""}, {MSG_USERAUTH_FAILURE, "tB"}, {MSG_USERAUTH_BANNER, "zt"},
      {MSG_USERAUTH_60, "tt"}, {MSG_USERAUTH_60, "ttnntBtB"}, {MSG_IGNORE, "z"},
      {MSG_DEBUG, "Btt"}, {MSG_UNIMPLEMENTED, "n"}, {MSG_EXT_INFO, "nttt"},
      {MSG_DISCONNECT, "ntt"}, {MSG_SERVICE_ACCEPT, "t"}};
  unsigned which = take(in), count = sizeof(forms) / sizeof(*forms);
  unsigned char type = which < 250 ? forms[which % count].type : (unsigned char)take(in);
  m->len = 0;
  put(m, &type, 1);
  put_fields(in, m, which < 250 ? forms[which % count].fields : "r");
  twist(in, m);
}

/* Appends a message as a packet that is not encrypted. */
static inline void put_packet(struct message *stream, const struct message *m) {
  unsigned char head[5];
  size_t padding = 8 - (5 + m->len) % 8 + 8;
  put_u32(head, (uint32_t)(1 + m->len + padding));
  head[4] = (unsigned char)padding;
  put(stream, head, sizeof(head));
  put(stream, m->bytes, m->len);
  put(stream, bulk, padding);
}

/* ---- what holds at any time ----------------------------------------------- */

static inline void check_link(hussh_link *link, int memory_failed) {
  hussh_link_info info;
  hussh_link_get_info(link, &info);
  CHECK(info.dead != HUSSH_DEAD_STUCK);
  CHECK(info.dead != HUSSH_DEAD_MEMORY || memory_failed);
  CHECK(!info.dead || info.dead == HUSSH_DEAD_PEER || info.text[0]);
  CHECK(memchr(info.text, '\0', sizeof(info.text)));
  CHECK(info.dead != HUSSH_DEAD_PROTOCOL || info.code != LIBSSH2_ERROR_EAGAIN);
  CHECK(memchr(info.unasked_kind, '\0', sizeof(info.unasked_kind)));
  CHECK(info.phase >= HUSSH_BANNER && info.phase <= HUSSH_OPEN);
}

static inline void check_channel(hussh_channel *channel) {
  hussh_channel_info info;
  hussh_channel_get_info(channel, &info);
  CHECK(info.state >= HUSSH_CH_OPENING && info.state <= HUSSH_CH_UNHEARD);
  CHECK(info.exit_known >= 0 && info.exit_known <= 2 && memchr(info.text, '\0', 256));
  CHECK(!info.abrupt || info.closed);
  CHECK(channel->replies <= channel->requests);
}

#endif
