/* peer.h - the server's side of a session, for the harnesses: packets, key exchanges, host keys.
 *
 * It is written against the RFCs and OpenSSL only, so that it also checks what hussh sends: a
 * packet that it cannot decrypt, or whose MAC is wrong, is a finding.  What it
 * sends is right unless the caller asks for a lie.
 *
 *   peer_packets.c   packets in both directions: ciphers, MACs, compression, lies
 *   peer_hostkeys.c  host keys of every type, certificates, signatures
 *   peer_kex.c       the server's half of every key exchange, and the keys that come of it
 */
#ifndef HUSSH_FUZZ_PEER_H
#define HUSSH_FUZZ_PEER_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define MUST(condition)                                                \
  do {                                                                 \
    if (!(condition)) {                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
      abort();                                                         \
    }                                                                  \
  } while (0)

#define PEER_PACKET (400 << 10) /* room for any packet */
#define PEER_BYTES (600 << 10)

enum peer_cipher_kind { PEER_PLAIN, PEER_BLOCKS, PEER_GCM, PEER_CHACHA };

struct peer_cipher {
  const char *name, *evp;
  int key, iv, block;
  enum peer_cipher_kind kind;
};

struct peer_mac {
  const char *name, *digest;
  int key, len, etm;
};

extern const struct peer_cipher peer_ciphers[];
extern const struct peer_mac peer_macs[];
extern const unsigned peer_cipher_count, peer_mac_count; /* the first of each is none */

/* One direction. */
struct peer_way {
  const struct peer_cipher *cipher;
  const struct peer_mac *mac;
  EVP_CIPHER_CTX *body, *head;
  unsigned char iv[16], mac_key[64], chacha[64];
  uint32_t seqno;
  z_stream zip;
  int zips, encrypts;
};

/* What is wrong with a packet, under a MAC that is right for it.  All zeros: nothing. */
struct peer_lie {
  int length;        /* added to the length field */
  int has_padding, padding; /* the padding length that it claims */
  unsigned more;     /* blocks of padding beyond what is needed */
  unsigned flip;     /* a bit of the finished packet that is changed, plus 1 */
  unsigned cut;      /* bytes that are missing at the end */
  int raw;           /* the payload is taken for compressed already */
};

void peer_way_set(struct peer_way *way, unsigned cipher, unsigned mac, const unsigned char *key,
                  const unsigned char *iv, const unsigned char *mac_key, int encrypts);
void peer_way_zip(struct peer_way *way);
void peer_way_clear(struct peer_way *way);
/* Makes a packet; returns its length. */
size_t peer_seal(struct peer_way *way, const void *payload, size_t len,
                 const struct peer_lie *lie, unsigned char *packet);
/* Takes one packet off a stream: returns its length on the wire, 0 if there is none yet, or
 * PEER_BAD if it is no packet under these keys. */
#define PEER_BAD SIZE_MAX
size_t peer_open(struct peer_way *way, const unsigned char *stream, size_t left,
                 unsigned char *payload, size_t *len);

/* ---- what messages are made of -------------------------------------------- */

struct peer_bytes {
  unsigned char at[8192];
  size_t len;
};

void peer_put(struct peer_bytes *to, const void *bytes, size_t len);
void peer_put_byte(struct peer_bytes *to, unsigned byte);
void peer_put_u32(struct peer_bytes *to, uint32_t number);
void peer_put_string(struct peer_bytes *to, const void *bytes, size_t len);
void peer_put_text(struct peer_bytes *to, const char *text);
void peer_put_mpint(struct peer_bytes *to, const unsigned char *number, size_t len);

/* ---- host keys ------------------------------------------------------------ */

struct peer_hostkey {
  const char *name, *signature, *digest; /* digest: NULL where the signature has its own */
  const char *blob, *curve;
  int key, certificate;                  /* key: which of the private keys */
};

extern const struct peer_hostkey peer_hostkeys[];
extern const unsigned peer_hostkey_count;
void peer_make_hostkeys(void);
void peer_hostkey_blob(const struct peer_hostkey *hostkey, struct peer_bytes *blob);
void peer_sign(const struct peer_hostkey *hostkey, const unsigned char *hash, size_t len,
               struct peer_bytes *signature);

/* ---- key exchanges -------------------------------------------------------- */

enum peer_kex_kind { PEER_X25519, PEER_NIST, PEER_MLKEM, PEER_GROUP, PEER_GEX };

struct peer_kex {
  const char *name, *digest;
  enum peer_kex_kind kind;
  int parameter; /* bits of the group, or OpenSSL's number of the curve */
};

extern const struct peer_kex peer_kexes[];
extern const unsigned peer_kex_count;

struct peer_choice {
  unsigned kex, hostkey, cipher, mac, zip; /* zip: 0 none, 1 zlib, 2 zlib@openssh.com */
  int strict;
};

/* A server, from the client's version on. */
struct peer {
  struct peer_way to_us, from_us;
  struct peer_choice choice;
  struct peer_bytes client_version, client_kexinit, kexinit, secret, group;
  unsigned char hash[64], session_id[64];
  size_t hash_len, session_id_len;
  int strict, kexinit_sent, replied;
};

/* Makes the server's KEXINIT. */
void peer_make_kexinit(struct peer *peer, struct peer_bytes *message);
/* Answers a message of the client's (KEX_INIT, GEX_REQUEST, GEX_INIT); 0: it is none of them. */
int peer_answer(struct peer *peer, const unsigned char *message, size_t len,
                struct peer_bytes *answer);
/* From now on this direction has the keys that were agreed on. */
void peer_new_keys(struct peer *peer, struct peer_way *way);
/* What a computer of ML-KEM would have found: for a work of kex_work.c. */
void peer_kem_secret(const unsigned char *ciphertext, size_t len, unsigned char secret[32]);

/* Random numbers that begin anew with each input, for libssh2 and OpenSSL alike. */
void peer_fix_random(void);
void peer_restart_random(void);

#endif
