/*
 * What sshd does since OpenSSH 10.1: TCP_NODELAY on every connection that it accepts.
 *
 * Loaded with LD_PRELOAD into an older sshd by tests/support/delay.py, where no package of a newer
 * one can be had.  The sessions are programs of their own, which get the socket as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int with_nodelay(int fd)
{
    int on = 1;

    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets */
    return fd;
}

int accept(int fd, struct sockaddr *address, socklen_t *size)
{
    int (*real)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");

    return with_nodelay(real(fd, address, size));
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    int (*real)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");

    return with_nodelay(real(fd, address, size, flags));
}
