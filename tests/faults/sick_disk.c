/* A disk that fails: preloaded into a station, it refuses to write, sync or read the outbox while
 * the file $FAULTS_DISK.write, .sync or .read exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sick(int fd, const char *how)
{
    char name[PATH_MAX], link[64], target[PATH_MAX];
    const char *flag = getenv("FAULTS_DISK");
    ssize_t length;
    if (!flag)
        return 0;
    snprintf(name, sizeof name, "%s.%s", flag, how);
    if (access(name, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, target, sizeof target - 1);
    if (length < 0)
        return 0;
    target[length] = 0;
    return strstr(target, "outbox.sqlite") != NULL;
}

#define REFUSING(type, name, how, parameters, arguments)                                           \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        if (!real)                                                                                 \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                    \
        if (sick(fd, how)) {                                                                       \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        return real arguments;                                                                     \
    }

REFUSING(ssize_t, write, "write", (int fd, const void *data, size_t size), (fd, data, size))
REFUSING(ssize_t, pwrite, "write", (int fd, const void *data, size_t size, off_t at),
         (fd, data, size, at))
REFUSING(ssize_t, pwrite64, "write", (int fd, const void *data, size_t size, off64_t at),
         (fd, data, size, at))
REFUSING(ssize_t, pread, "read", (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
REFUSING(ssize_t, pread64, "read", (int fd, void *data, size_t size, off64_t at),
         (fd, data, size, at))
REFUSING(int, fsync, "sync", (int fd), (fd))
REFUSING(int, fdatasync, "sync", (int fd), (fd))
