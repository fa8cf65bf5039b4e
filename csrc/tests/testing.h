/* testing.h - what the tests of links and channels share; never part of the library.
 *
 * Messages are written as a format and values: b byte, u uint32, s C string,
 * d pointer and length as an SSH string, r the same without its length.  Each message
 * ends where a page begins that may not be touched.  The links are memory links, made
 * ready by hand and without encryption, so that a test can read what they send.
 */
#ifndef HUSSH_TESTING_H
#define HUSSH_TESTING_H

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#include "channel.h"
#include "message_hook.h"
#include "messages.h"
#include "send.h"

#define CHECK(condition)                                               \
  do {                                                                 \
    if (!(condition)) {                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
      exit(1);                                                         \
    }                                                                  \
  } while (0)

/* ---- allocation that fails on demand ------------------------------------ */

static long fail_in = -1; /* calls until one fails; -1: never */
static unsigned long allocations;

static inline int fails(void) {
  allocations++;
  return fail_in >= 0 && fail_in-- == 0;
}

void *test_malloc(size_t size) {
  return fails() ? NULL : malloc(size);
}

void *test_calloc(size_t count, size_t size) {
  return fails() ? NULL : calloc(count, size);
}

void *test_realloc(void *old, size_t size) {
  return fails() ? NULL : realloc(old, size);
}

/* ---- messages ----------------------------------------------------------- */

#define GUARDED ((size_t)128 << 10)

struct message {
  unsigned char bytes[GUARDED];
  size_t len;
};

/* The same bytes, ending where the next page may not be touched. */
static inline unsigned char *guarded(const void *bytes, size_t len) {
  static unsigned char *area;
  if (!area) {
    area = mmap(NULL, GUARDED + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED && !mprotect(area + GUARDED, 4096, PROT_NONE));
  }
  if (len)
    memmove(area + GUARDED - len, bytes, len);
  return area + GUARDED - len;
}

static inline void put(struct message *m, const void *bytes, size_t len) {
  CHECK(m->len + len <= sizeof(m->bytes));
  if (len)
    memcpy(m->bytes + m->len, bytes, len);
  m->len += len;
}

static inline void compose(struct message *m, const char *format, va_list values) {
  unsigned char number[4];
  m->len = 0;
  for (; *format; format++) {
    const char *text;
    size_t len;
    switch (*format) {
    case 'b':
      number[0] = (unsigned char)va_arg(values, int);
      put(m, number, 1);
      break;
    case 'u':
      put_u32(number, va_arg(values, uint32_t));
      put(m, number, 4);
      break;
    default:
      text = va_arg(values, const char *);
      len = *format == 's' ? strlen(text) : va_arg(values, size_t);
      put_u32(number, (uint32_t)len);
      if (*format != 'r')
        put(m, number, 4);
      put(m, text, len);
    }
  }
}

static unsigned char bulk[70000]; /* any bytes */
static struct message composed, received;

/* Hands the link a message as if libssh2 had decrypted it. */
static inline int say_message(hussh_link *link, const struct message *m, size_t len) {
  return link_message_hook(link->session, guarded(m->bytes, len), len);
}

static inline int say(hussh_link *link, const char *format, ...) {
  va_list values;
  va_start(values, format);
  compose(&composed, format, values);
  va_end(values);
  return say_message(link, &composed, composed.len);
}

/* One packet out of a stream of packets that are not encrypted; 0: none. */
static inline size_t unpack(const unsigned char *stream, size_t left, struct message *m) {
  size_t len = left < 5 ? 0 : get_u32(stream);
  if (!len)
    return 0;
  CHECK(left >= 4 + len && stream[4] < len);
  m->len = 0;
  put(m, stream + 5, len - stream[4] - 1);
  return 4 + len;
}

static inline int hear(hussh_link *link) {
  size_t used = unpack(queue_head(&link->tx), link->tx.len, &received);
  if (used)
    queue_drop(&link->tx, used);
  return used != 0;
}

static inline int hears_message(hussh_link *link, const char *format, va_list values) {
  compose(&composed, format, values);
  return hear(link) && received.len == composed.len &&
         !memcmp(received.bytes, composed.bytes, composed.len);
}

/* The next message that the link sends is this one. */
static inline int hears(hussh_link *link, const char *format, ...) {
  int same;
  va_list values;
  va_start(values, format);
  same = hears_message(link, format, values);
  va_end(values);
  return same;
}

/* ---- links -------------------------------------------------------------- */

/* As if versions and keys were exchanged and the login done. */
static inline void make_ready(hussh_link *link) {
  link->handshake_done = link->authenticated = 1;
  link->phase = HUSSH_OPEN;
  link->session->state = LIBSSH2_STATE_AUTHENTICATED;
  link->session->socket_state = LIBSSH2_SOCKET_CONNECTED;
}

/* As if a key exchange ran, whose packets are handled by somebody else. */
static inline void set_kex(hussh_link *link, int running) {
  int flags = LIBSSH2_STATE_EXCHANGING_KEYS | LIBSSH2_STATE_KEX_ACTIVE;
  link->session->state = (link->session->state & ~flags) | (running ? flags : 0);
}

static inline hussh_link *ready_link(void) {
  hussh_link *link = hussh_link_over_memory();
  CHECK(link);
  make_ready(link);
  return link;
}

static inline hussh_channel *opening(hussh_link *link, uint32_t window) {
  hussh_channel *channel = hussh_channel_open(link, "session", 7, NULL, 0, window);
  CHECK(channel);
  CHECK(hears(link, "bsuuu", MSG_CHANNEL_OPEN, "session", channel->local_id, window, MAX_PACKET));
  return channel;
}

/* An open channel whose number at the peer is 1000 above ours. */
static inline hussh_channel *opened(hussh_link *link, uint32_t ours, uint32_t theirs) {
  hussh_channel *channel = opening(link, ours);
  say(link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, channel->local_id, channel->local_id + 1000,
      theirs, 40000u);
  CHECK(channel->state == HUSSH_CH_OPEN && channel->send_packet == MAX_PACKET);
  return channel;
}

static inline int dead_by(hussh_link *link, int why) {
  hussh_link_info info;
  hussh_link_get_info(link, &info);
  return info.dead == why && (why == HUSSH_DEAD_NOT || info.text[0]);
}

static inline size_t count_events(hussh_link *root) {
  uint64_t tokens[64];
  size_t count, all = 0;
  while ((count = hussh_events(root, tokens, 64)))
    all += count;
  return all;
}

static inline uint32_t random_number(void) {
  static uint64_t state = 20240607;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33);
}

/* ---- a server that begins ---------------------------------------------- */

static struct message hello; /* what a server says first: lines, its version, KEXINIT */

static inline void make_hello(void) {
  static const char *const lists[] = {"curve25519-sha256", "ssh-ed25519", "aes256-ctr",
                                      "aes256-ctr", "hmac-sha2-256", "hmac-sha2-256", "none",
                                      "none", "", ""};
  struct message kexinit = {.len = 0};
  unsigned char number[5] = {20};
  size_t i, padding;
  put(&hello, "a line before\r\nSSH-2.0-Test_1\r\n", 31);
  put(&kexinit, number, 1);
  put(&kexinit, bulk, 16);
  for (i = 0; i < 10; i++) {
    put_u32(number, (uint32_t)strlen(lists[i]));
    put(&kexinit, number, 4);
    put(&kexinit, lists[i], strlen(lists[i]));
  }
  put(&kexinit, bulk, 5);
  padding = 8 - (5 + kexinit.len) % 8 + 8;
  put_u32(number, (uint32_t)(1 + kexinit.len + padding));
  number[4] = (unsigned char)padding;
  put(&hello, number, 5);
  put(&hello, kexinit.bytes, kexinit.len);
  put(&hello, bulk, padding);
}

#endif
