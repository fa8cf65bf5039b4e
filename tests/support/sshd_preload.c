/*
 * What an SSH server sees of the machine, where it cannot have a mount namespace of its own.
 *
 * Loaded with LD_PRELOAD into the test servers and what their sessions start, by
 * tests/support/preload.py. $HUSSH_TEST_ETC is a folder that stands for /etc: accounts, passwords, groups, host names and PAM services are those
 * of its files. It replaces functions of libc and libpam and nothing of the server itself. It never
 * writes: what the server would record about logins (utmp, wtmp, lastlog) is dropped.
 *
 * Nothing here pretends to be root: a server of root's changes to the uids of the accounts, and for
 * a server of another user all accounts have the uid of that user.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <pwd.h>
#include <shadow.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>

/* Where sshd of this system wants an empty folder of root's for its unprivileged half. */
#define SEPARATION_FOLDER "/run/sshd"
#define ENTRY_SIZE 4096

#define MAX_VARIABLES 1024

/* Read once, because servers make the environment of a session anew. */
static char etc[PATH_MAX], etc_variable[PATH_MAX + 32], preload_variable[PATH_MAX + 32];

__attribute__((constructor)) static void set_up(void)
{
    const char *given = getenv("HUSSH_TEST_ETC");
    const char *library = getenv("LD_PRELOAD");

    snprintf(etc, sizeof etc, "%s", given ? given : "/nonexistent");
    snprintf(etc_variable, sizeof etc_variable, "HUSSH_TEST_ETC=%s", etc);
    snprintf(preload_variable, sizeof preload_variable, "LD_PRELOAD=%s", library ? library : "");
    /* The first process, the daemon, adopts the orphans of all others: then they can be found. */
    if (getenv("HUSSH_TEST_ADOPTS") != NULL) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        unsetenv("HUSSH_TEST_ADOPTS");
    }
}

static const char *beneath(char path[PATH_MAX], const char *name)
{
    return snprintf(path, PATH_MAX, "%s/%s", etc, name) < PATH_MAX ? path : "/nonexistent";
}

static FILE *open_file(const char *name)
{
    char path[PATH_MAX];

    return fopen(beneath(path, name), "re");
}

/* Return the next function of this name: that of the library. */
static void *original(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (found == NULL) {
        fprintf(stderr, "sshd_preload: no %s\n", name);
        abort();
    }
    return found;
}

/* -- passwd ------------------------------------------------------------------------------------ */

/* Find by name or, without one, by uid. Several accounts may have one uid: $USER's then. */
static int find_user(const char *name, uid_t uid, struct passwd *entry, char *buffer, size_t size,
                     struct passwd **result)
{
    const char *preferred = getenv("USER");
    FILE *file = open_file("passwd");
    int error = ENOENT;

    *result = NULL;
    if (file == NULL)
        return errno;
    if (name == NULL && preferred != NULL) {
        error = find_user(preferred, 0, entry, buffer, size, result);
        if (error == 0 && *result != NULL && (*result)->pw_uid != uid)
            *result = NULL;
    }
    while (*result == NULL && (error = fgetpwent_r(file, entry, buffer, size, result)) == 0)
        if (name != NULL ? strcmp(entry->pw_name, name) != 0 : entry->pw_uid != uid)
            *result = NULL;
    fclose(file);
    return error == ENOENT ? 0 : error;
}

int getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size,
               struct passwd **result)
{
    return find_user(name, 0, entry, buffer, size, result);
}

int getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **result)
{
    return find_user(NULL, uid, entry, buffer, size, result);
}

static struct passwd *find_user_static(const char *name, uid_t uid)
{
    static char buffer[ENTRY_SIZE];
    static struct passwd entry;
    struct passwd *result;

    errno = find_user(name, uid, &entry, buffer, sizeof buffer, &result);
    return result;
}

struct passwd *getpwnam(const char *name)
{
    return find_user_static(name, 0);
}

struct passwd *getpwuid(uid_t uid)
{
    return find_user_static(NULL, uid);
}

/* -- shadow ------------------------------------------------------------------------------------ */

int getspnam_r(const char *name, struct spwd *entry, char *buffer, size_t size,
               struct spwd **result)
{
    FILE *file = open_file("shadow");
    int error = ENOENT;

    *result = NULL;
    if (file == NULL)
        return errno;
    while (*result == NULL && (error = fgetspent_r(file, entry, buffer, size, result)) == 0)
        if (strcmp(entry->sp_namp, name) != 0)
            *result = NULL;
    fclose(file);
    return error;
}

struct spwd *getspnam(const char *name)
{
    static char buffer[ENTRY_SIZE];
    static struct spwd entry;
    struct spwd *result;

    errno = getspnam_r(name, &entry, buffer, sizeof buffer, &result);
    return result;
}

/* -- group ------------------------------------------------------------------------------------- */

static struct group *find_group(const char *name, gid_t gid)
{
    static char buffer[ENTRY_SIZE];
    static struct group entry;
    struct group *result = NULL;
    FILE *file = open_file("group");

    if (file == NULL)
        return NULL;
    while (result == NULL && fgetgrent_r(file, &entry, buffer, sizeof buffer, &result) == 0)
        if (name != NULL ? strcmp(entry.gr_name, name) != 0 : entry.gr_gid != gid)
            result = NULL;
    fclose(file);
    return result;
}

struct group *getgrnam(const char *name)
{
    return find_group(name, 0);
}

struct group *getgrgid(gid_t gid)
{
    return find_group(NULL, gid);
}

/* No account is in a second group. */
int getgrouplist(const char *name, gid_t gid, gid_t *groups, int *count)
{
    int room = *count;

    (void)name;
    *count = 1;
    if (room < 1)
        return -1;
    groups[0] = gid;
    return 1;
}

/* Who is not root keeps his groups. */
int initgroups(const char *name, gid_t gid)
{
    (void)name;
    return geteuid() == 0 ? setgroups(1, &gid) : 0;
}

/* -- hosts ------------------------------------------------------------------------------------- */

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int is_address(const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];

    return strchr(text, '%') != NULL || inet_pton(AF_INET, text, address) == 1 ||
           inet_pton(AF_INET6, text, address) == 1;
}

/* Names are those of the file: no lookup leaves the machine. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    resolve *real = (resolve *)original("getaddrinfo");
    char line[1024];
    struct addrinfo **end = result;
    int failed = EAI_NONAME;
    FILE *file;

    if (node == NULL || is_address(node))
        return real(node, service, hints, result);
    *result = NULL;
    file = open_file("hosts");
    if (file == NULL)
        return EAI_NONAME;
    while (fgets(line, sizeof line, file) != NULL) {
        char *address = strtok(line, " \t\n"), *name = strtok(NULL, " \t\n");

        if (address == NULL || name == NULL || strcasecmp(name, node) != 0)
            continue;
        failed = real(address, service, hints, end);
        while (failed == 0 && *end != NULL)
            end = &(*end)->ai_next;
    }
    fclose(file);
    return *result != NULL ? 0 : failed;
}

/* -- PAM --------------------------------------------------------------------------------------- */

typedef int start_in_folder(const char *, const char *, const void *, const char *, void **);

int pam_start(const char *service, const char *user, const void *conversation, void **handle);

int pam_start(const char *service, const char *user, const void *conversation, void **handle)
{
    start_in_folder *real = (start_in_folder *)original("pam_start_confdir");
    char folder[PATH_MAX];

    return real(service, user, conversation, beneath(folder, "pam.d"), handle);
}

/* -- programs ---------------------------------------------------------------------------------- */

typedef int execute(const char *, char *const[], char *const[]);

/* What a session starts sees the same, although the server gave it an environment of its own. */
int execve(const char *path, char *const arguments[], char *const environment[])
{
    execute *real = (execute *)original("execve");
    char *extended[MAX_VARIABLES + 3];
    size_t count = 0;

    for (char *const *variable = environment; variable != NULL && *variable != NULL; variable++) {
        if (strncmp(*variable, "LD_PRELOAD=", 11) == 0 || count == MAX_VARIABLES)
            return real(path, arguments, environment);
        extended[count++] = *variable;
    }
    extended[count++] = preload_variable;
    extended[count++] = etc_variable;
    extended[count] = NULL;
    return real(path, arguments, extended);
}

int execv(const char *path, char *const arguments[])
{
    return execve(path, arguments, environ);
}

/* -- the machine's files ----------------------------------------------------------------------- */

typedef int stat_file(const char *, struct stat *);
typedef int change_root(const char *);
typedef int open_any(const char *, int, ...);

int stat(const char *path, struct stat *result)
{
    stat_file *real = (stat_file *)original("stat");
    char folder[PATH_MAX];
    int failed = real(strcmp(path, SEPARATION_FOLDER) ? path : beneath(folder, "empty"), result);

    /* A home below /tmp is as safe as any, but tinysshd wants no such folder above it. */
    if (!failed && S_ISDIR(result->st_mode) && result->st_mode & S_ISVTX)
        result->st_mode &= ~(mode_t)(S_IWGRP | S_IWOTH);
    return failed;
}

int chroot(const char *path)
{
    change_root *real = (change_root *)original("chroot");
    char folder[PATH_MAX];

    return real(strcmp(path, SEPARATION_FOLDER) ? path : beneath(folder, "empty"));
}

static int is_login_record(const char *path)
{
    return strncmp(path, "/var/log/", 9) == 0 || strcmp(path, "/run/utmp") == 0 ||
           strcmp(path, "/var/run/utmp") == 0;
}

static int open_by(const char *function, const char *path, int flags, mode_t mode)
{
    open_any *real = (open_any *)original(function);

    if (is_login_record(path)) {
        errno = ENOENT;
        return -1;
    }
    return real(path, flags, mode);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_by("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_by("open64", path, flags, mode);
}

struct utmp *pututline(const struct utmp *entry)
{
    return (struct utmp *)entry;
}

struct utmpx *pututxline(const struct utmpx *entry)
{
    return (struct utmpx *)entry;
}

void updwtmp(const char *path, const struct utmp *entry)
{
    (void)path;
    (void)entry;
}

void updwtmpx(const char *path, const struct utmpx *entry)
{
    (void)path;
    (void)entry;
}

void login(const struct utmp *entry)
{
    (void)entry;
}

int logout(const char *line)
{
    (void)line;
    return 1;
}

void logwtmp(const char *line, const char *name, const char *host)
{
    (void)line;
    (void)name;
    (void)host;
}
