/* stubs.c - refuses three functions of libssh2 that its tables name and nothing calls.
 *
 * libssh2's host key methods point to parsers of private keys (pem.c, bcrypt,
 * blowfish), and its blocking sessions send keepalives.  Python parses the keys, and
 * our sessions never block.  With these stubs the linker leaves all of that code out.
 */
#include "libssh2_priv.h"
#include "misc.h"

int
_libssh2_openssh_pem_parse(LIBSSH2_SESSION *session,
                           const unsigned char *passphrase, FILE *fp,
                           struct string_buf **decrypted_buf)
{
    (void)passphrase;
    (void)fp;
    (void)decrypted_buf;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "private keys are not parsed here");
}

int
_libssh2_openssh_pem_parse_memory(LIBSSH2_SESSION *session,
                                  const unsigned char *passphrase,
                                  const char *filedata, size_t filedata_len,
                                  struct string_buf **decrypted_buf)
{
    (void)passphrase;
    (void)filedata;
    (void)filedata_len;
    (void)decrypted_buf;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "private keys are not parsed here");
}

LIBSSH2_API int
libssh2_keepalive_send(LIBSSH2_SESSION *session, int *seconds_to_next)
{
    if(seconds_to_next)
        *seconds_to_next = 0;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "keepalives are sent by the link");
}
