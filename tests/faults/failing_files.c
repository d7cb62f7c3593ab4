/* Makes one operation on the files of a database fail, as a broken or full disk does: for LD_PRELOAD.
 *
 * `fail_at(op, nth, error)` arms it: the n-th operation of a kind from then on fails with an errno; 0 makes it a short
 * write of half of the bytes, and -1 kills the process. What is written elsewhere than to names with ".db" counts not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char armed;
static long left, reached;
static int how;

void fail_at(char op, long nth, int error) {
  armed = op;
  left = nth;
  reached = 0;
  how = error;
}

long has_failed(void) { return reached; }

static int is_of_database(int fd) {
  char link[64], name[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, name, sizeof name - 1);
  if (size < 0) return 0;
  name[size] = 0;
  return strstr(name, ".db") != NULL;
}

/* Whether this operation is the one. */
static int fails(char op, int fd) {
  if (armed != op || !is_of_database(fd) || --left != 0) return 0;
  reached = 1;
  if (how == -1) kill(getpid(), SIGKILL);
  errno = how;
  return 1;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

#define WRITING(name, offset_type)                                                                       \
  ssize_t name(int fd, const void *bytes, size_t size, offset_type offset) {                             \
    ssize_t (*real)(int, const void *, size_t, offset_type) =                                            \
        REAL(#name, ssize_t(*)(int, const void *, size_t, offset_type));                                 \
    if (!fails('w', fd)) return real(fd, bytes, size, offset);                                           \
    return how ? -1 : real(fd, bytes, size / 2, offset);                                                 \
  }

WRITING(pwrite, off_t)
WRITING(pwrite64, off64_t)

#define PLAIN(name, op, ...)                                     \
  if (fails(op, fd)) return -1;                                  \
  return REAL(#name, int (*)())(__VA_ARGS__);

int fsync(int fd) { PLAIN(fsync, 's', fd) }
int fdatasync(int fd) { PLAIN(fdatasync, 's', fd) }
int ftruncate(int fd, off_t size) {
  if (fails('t', fd)) return -1;
  return REAL("ftruncate", int (*)(int, off_t))(fd, size);
}
int ftruncate64(int fd, off64_t size) {
  if (fails('t', fd)) return -1;
  return REAL("ftruncate64", int (*)(int, off64_t))(fd, size);
}

ssize_t write(int fd, const void *bytes, size_t size) {
  ssize_t (*real)(int, const void *, size_t) = REAL("write", ssize_t(*)(int, const void *, size_t));
  if (!fails('w', fd)) return real(fd, bytes, size);
  return how ? -1 : real(fd, bytes, size / 2);
}
