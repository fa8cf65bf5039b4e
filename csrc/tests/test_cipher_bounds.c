/* test_cipher_bounds.c - calls of libssh2's cipher whose lengths cannot be right.
 *
 * What patch 0033 (CVE-2026-66033) refuses.  No server makes libssh2 call it like
 * this any more, so the function itself is called.  scripts/check-c builds and runs
 * it, under ASan and UBSan; tests/hostile/test_patches.py shows that it fails
 * without the patch.  NDEBUG as the library is built: assertions check nothing
 * in crypto.c, which includes the cipher's openssl.c.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c
 * build: libssh2
 * build: libssh2:crypto.c -DNDEBUG
 */
#include "testing.h"

#define BLOCK 16

/* Decrypt `len` bytes as one call, flush against a page that may not be touched. */
static int decrypt(_libssh2_cipher_type(algo), size_t len, int firstlast) {
  static unsigned char key[32], iv[16], bytes[4096];
  _libssh2_cipher_ctx ctx;
  int rc;
  CHECK(!_libssh2_cipher_init(&ctx, algo, iv, key, 0));
  rc = _libssh2_cipher_crypt(&ctx, algo, 0, guarded(bytes, len), len, firstlast);
  _libssh2_cipher_dtor(&ctx);
  return rc;
}

int main(void) {
  size_t len;
  CHECK(!libssh2_init(0));

  /* What is right still works. */
  CHECK(!decrypt(EVP_aes_256_ctr, BLOCK, FIRST_BLOCK));
  CHECK(!decrypt(EVP_aes_256_gcm, BLOCK, FIRST_BLOCK));
  CHECK(!decrypt(EVP_aes_256_gcm, BLOCK, MIDDLE_BLOCK));

  /* More than the buffer on the stack holds. */
  CHECK(decrypt(EVP_aes_256_ctr, EVP_MAX_BLOCK_LENGTH + 1, MIDDLE_BLOCK));
  CHECK(decrypt(EVP_aes_256_gcm, EVP_MAX_BLOCK_LENGTH + 1, MIDDLE_BLOCK));
  CHECK(decrypt(EVP_aes_256_ctr, 2048, FIRST_BLOCK));

  /* Less than the length field of a first block, than the tag of a last one. */
  for (len = 0; len < 4; len++)
    CHECK(decrypt(EVP_aes_256_gcm, len, FIRST_BLOCK));
  for (len = 0; len < 16; len++)
    CHECK(decrypt(EVP_aes_128_gcm, len, LAST_BLOCK));
  for (len = 0; len < 20; len++)
    CHECK(decrypt(EVP_aes_128_gcm, len, FIRST_BLOCK | LAST_BLOCK));

  libssh2_exit();
  puts("ok");
  return 0;
}
