/* keyed.h - gives a link and a peer keys at once, as if an exchange had agreed on them. */
#ifndef HUSSH_FUZZ_KEYED_H
#define HUSSH_FUZZ_KEYED_H

#include "fuzzing.h"

#include "comp.h"
#include "crypto.h"
#include "mac.h"
#include "peer.h"

static inline const void *method_named(const void *methods, const char *name) {
  const struct named {
    const char *name;
  } *const *at = methods; /* all kinds begin with their name */
  while (*at && strcmp((*at)->name, name))
    at++;
  CHECK(*at);
  return *at;
}

/* Keys that have no pattern; another one for each purpose. */
static inline void fixed_key(unsigned char *key, size_t len, unsigned purpose) {
  size_t i;
  for (i = 0; i < len; i++)
    key[i] = (unsigned char)(i * 37 + purpose * 101 + i * i);
}

static inline void key_end(LIBSSH2_SESSION *session, libssh2_endpoint_data *end, unsigned cipher,
                           unsigned mac, int zip, unsigned purpose, int encrypt) {
  unsigned char key[64], iv[16], *mac_key = LIBSSH2_ALLOC(session, 64);
  int unused = 0;
  CHECK(mac_key);
  fixed_key(key, sizeof(key), purpose);
  fixed_key(iv, sizeof(iv), purpose + 1);
  fixed_key(mac_key, 64, purpose + 2);
  end->crypt = method_named(libssh2_crypt_methods(), peer_ciphers[cipher].name);
  CHECK(!end->crypt->init(session, end->crypt, iv, &unused, key, &unused, encrypt,
                          &end->crypt_abstract));
  end->mac = method_named(_libssh2_mac_methods(), peer_macs[mac].name);
  CHECK(!end->mac->init(session, mac_key, &unused, &end->mac_abstract));
  end->comp = method_named(_libssh2_comp_methods(session),
                           zip == 2 ? "zlib@openssh.com" : zip ? "zlib" : "none");
  if (end->comp->init)
    CHECK(!end->comp->init(session, encrypt, &end->comp_abstract));
}

static inline void key_way(struct peer_way *way, unsigned cipher, unsigned mac, unsigned purpose,
                           int encrypts) {
  unsigned char key[64], iv[16], mac_key[64];
  fixed_key(key, sizeof(key), purpose);
  fixed_key(iv, sizeof(iv), purpose + 1);
  fixed_key(mac_key, sizeof(mac_key), purpose + 2);
  peer_way_clear(way);
  peer_way_set(way, cipher, mac, key, iv, mac_key, encrypts);
}

/* cipher and mac: from 1 on; zip: 0 none, 1 zlib, 2 zlib@openssh.com, which waits for the login. */
static inline void key_both(hussh_link *link, struct peer_way *to_us, struct peer_way *from_us,
                            unsigned cipher, unsigned mac, int zip) {
  LIBSSH2_SESSION *session = link->session;
  session->flag.compress = zip != 0;
  key_end(session, &session->local, cipher, mac, zip, 10, 1);
  key_end(session, &session->remote, cipher, mac, zip, 20, 0);
  key_way(from_us, cipher, mac, 10, 0);
  key_way(to_us, cipher, mac, 20, 1);
  session->session_id = LIBSSH2_ALLOC(session, 32);
  CHECK(session->session_id);
  memset(session->session_id, 7, 32);
  session->session_id_len = 32;
  make_ready(link);
  session->state |= LIBSSH2_STATE_NEWKEYS;
  if (zip) {
    peer_way_zip(to_us);
    peer_way_zip(from_us);
  }
}

#endif
