/* queue.h - a byte queue: append at the tail, take at the head.
 *
 * The bytes lie in one piece, so that libssh2 and the system calls work in place.
 * An empty queue frees its memory only if most of it was unused since the queue was
 * last empty.  So bulk transfers do not allocate, and idle links do not hoard.
 *
 * Links and channels (tree.h) have queues.  A queue knows nothing of what its bytes mean.
 */
#ifndef HUSSH_QUEUE_H
#define HUSSH_QUEUE_H

#include <stdlib.h>
#include <string.h>

typedef struct {
  unsigned char *bytes;
  size_t head, len, size, peak;
} hussh_queue;

#define HUSSH_QUEUE_KEEP ((size_t)16384)

/* NULL: it is empty and has no memory. */
static inline unsigned char *queue_head(const hussh_queue *q) {
  return q->bytes ? q->bytes + q->head : NULL; /* adding 0 to NULL is undefined, too */
}

/* Returns room for n more bytes at the tail, in one piece; NULL: no memory. */
static inline unsigned char *queue_room(hussh_queue *q, size_t n) {
  size_t need = q->len + n;
  if (q->head + need > q->size) {
    if (q->head && q->len)
      memmove(q->bytes, q->bytes + q->head, q->len);
    /* The move was enough, unless it would soon have to be done again. */
    if (need > q->size || (q->head < q->size / 2 && need + need / 2 > q->size)) {
      size_t size = q->size ? q->size : 512;
      unsigned char *bytes;
      while (size < need + need / 2) /* else a full queue would be moved for each append */
        size *= 2;
      q->head = 0;
      /* Not malloc and a copy: large pieces grow without either, and without twice the memory. */
      bytes = realloc(q->bytes, size);
      if (!bytes)
        return NULL;
      q->bytes = bytes;
      q->size = size;
    }
    q->head = 0;
  }
  return q->bytes + q->head + q->len;
}

static inline void queue_added(hussh_queue *q, size_t n) {
  q->len += n;
  if (q->len > q->peak)
    q->peak = q->len;
}

static inline int queue_append(hussh_queue *q, const void *bytes, size_t n) {
  unsigned char *room;
  if (!n)
    return 0;
  room = queue_room(q, n);
  if (!room)
    return -1;
  memcpy(room, bytes, n);
  queue_added(q, n);
  return 0;
}

static inline void queue_clear(hussh_queue *q) {
  free(q->bytes);
  memset(q, 0, sizeof(*q));
}

static inline void queue_drop(hussh_queue *q, size_t n) {
  q->head += n;
  q->len -= n;
  if (!q->len) {
    q->head = 0;
    if (q->size > HUSSH_QUEUE_KEEP && q->peak < q->size / 4)
      queue_clear(q);
    q->peak = 0;
  }
}

static inline size_t queue_take(hussh_queue *q, void *bytes, size_t n) {
  if (n > q->len)
    n = q->len;
  if (n) {
    memcpy(bytes, queue_head(q), n);
    queue_drop(q, n);
  }
  return n;
}

#endif
