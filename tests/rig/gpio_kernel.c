/* A GPIO chip for libgpiod where the kernel has none: the character device's interface, version 2,
 * below the C library. EDGE_QC_CHIP names the chip's path, EDGE_QC_EDGES a FIFO from which its one
 * request for an input reads events, EDGE_QC_ASKED a file that the request is written to as the
 * kernel gets it, EDGE_QC_LEVELS a file that grows by "nanoseconds line level" with each level that a
 * request for outputs sets, from its first on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define MAJOR 250
#define MINOR 7
static int chip_fd = -1, levels_fd = -1;
static uint32_t out_lines[GPIO_V2_LINES_MAX], out_count;

static int is_chip(const char *path) {
    const char *chip = getenv("EDGE_QC_CHIP");
    return path && chip && strcmp(path, chip) == 0;
}

static int describe(struct stat *found) {
    memset(found, 0, sizeof *found);
    found->st_mode = S_IFCHR | 0660;
    found->st_rdev = makedev(MAJOR, MINOR);
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int lstat(const char *path, struct stat *found) {
    return is_chip(path) ? describe(found) : REAL(lstat)(path, found);
}

int stat(const char *path, struct stat *found) {
    return is_chip(path) ? describe(found) : REAL(stat)(path, found);
}

int __lxstat(int version, const char *path, struct stat *found) {
    (void)version;
    return is_chip(path) ? describe(found) : REAL(lstat)(path, found);
}

int __xstat(int version, const char *path, struct stat *found) {
    (void)version;
    return is_chip(path) ? describe(found) : REAL(stat)(path, found);
}

char *realpath(const char *path, char *into) {
    if (path && strcmp(path, "/sys/dev/char/250:7/subsystem") == 0) {
        return into ? strcpy(into, "/sys/bus/gpio") : strdup("/sys/bus/gpio");
    }
    return REAL(realpath)(path, into);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if (is_chip(path)) {
        chip_fd = REAL(open)("/dev/null", O_RDWR | O_CLOEXEC);
        return chip_fd;
    }
    return REAL(open)(path, flags, mode);
}

static void note_levels(uint64_t bits, uint64_t mask) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (uint32_t at = 0; at < out_count; at++) {
        if (!(mask >> at & 1)) continue;
        char text[64];
        int length = snprintf(text, sizeof text, "%lld %u %u\n",
                              (long long)now.tv_sec * 1000000000 + now.tv_nsec, out_lines[at],
                              (unsigned)(bits >> at & 1));
        if (write(levels_fd, text, length) != length) abort();
    }
}

/* Flags may stand for all lines, or in an attribute for some. */
static int is_output(const struct gpio_v2_line_request *request) {
    uint64_t flags = request->config.flags;
    for (uint32_t at = 0; at < request->config.num_attrs; at++) {
        if (request->config.attrs[at].attr.id == GPIO_V2_LINE_ATTR_ID_FLAGS) {
            flags |= request->config.attrs[at].attr.flags;
        }
    }
    return (flags & GPIO_V2_LINE_FLAG_OUTPUT) != 0;
}

static int request_outputs(struct gpio_v2_line_request *request) {
    out_count = request->num_lines;
    memcpy(out_lines, request->offsets, sizeof out_lines);
    levels_fd = REAL(open)(getenv("EDGE_QC_LEVELS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    request->fd = levels_fd;
    uint64_t first = 0;
    for (uint32_t at = 0; at < request->config.num_attrs; at++) {
        if (request->config.attrs[at].attr.id == GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES) {
            first |= request->config.attrs[at].attr.values & request->config.attrs[at].mask;
        }
    }
    note_levels(first, ~0ull);
    return levels_fd < 0 ? -1 : 0;
}

static int request_line(struct gpio_v2_line_request *request) {
    int asked = REAL(open)(getenv("EDGE_QC_ASKED"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t written = write(asked, request, sizeof *request);
    close(asked);
    if (getenv("EDGE_QC_LEVELS") && is_output(request)) {
        return request_outputs(request);
    }
    if (written != sizeof *request || access(getenv("EDGE_QC_EDGES"), F_OK) != 0) {
        errno = EBUSY;
        return -1;
    }
    /* For writing too, so that it has no end when nobody writes. */
    request->fd = REAL(open)(getenv("EDGE_QC_EDGES"), O_RDWR | O_CLOEXEC);
    return request->fd < 0 ? -1 : 0;
}

int ioctl(int fd, unsigned long what, ...) {
    va_list more;
    va_start(more, what);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (levels_fd >= 0 && fd == levels_fd &&
        (unsigned int)what == (unsigned int)GPIO_V2_LINE_SET_VALUES_IOCTL) {
        const struct gpio_v2_line_values *values = argument;
        note_levels(values->bits, values->mask);
        return 0;
    }
    if (fd != chip_fd || chip_fd < 0) {
        return REAL(ioctl)(fd, what, argument);
    }
    what = (unsigned int)what; /* As the kernel takes it: callers may have extended its sign. */
    if (what == GPIO_GET_CHIPINFO_IOCTL) {
        struct gpiochip_info *info = argument;
        memset(info, 0, sizeof *info);
        strcpy(info->name, "gpiochip0");
        strcpy(info->label, "stand-in");
        info->lines = 32;
        return 0;
    }
    if (what == GPIO_V2_GET_LINEINFO_IOCTL) {
        struct gpio_v2_line_info *info = argument;
        unsigned offset = info->offset;
        memset(info, 0, sizeof *info);
        info->offset = offset;
        info->flags = GPIO_V2_LINE_FLAG_INPUT;
        if (offset == 5) strcpy(info->name, "PQ.05");
        return 0;
    }
    if (what == GPIO_V2_GET_LINE_IOCTL) {
        return request_line(argument);
    }
    errno = ENOTTY;
    return -1;
}
