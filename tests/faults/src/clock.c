/*
 * A wrong clock for one program: LD_PRELOADed, it adds the seconds that stand in /faults/clock to the real time, and reads
 * them anew at every call, so that the clock can jump. A program that starts without that file keeps the real one. In C,
 * because it stands in front of libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char path[] = "/faults/clock";
static int wrong;

__attribute__((constructor)) static void begin(void) { wrong = access(path, R_OK) == 0; }

static long offset(void)
{
	char text[32] = "0";
	FILE *file = wrong ? fopen(path, "re") : NULL;
	long seconds = 0;
	if (file) {
		if (fgets(text, sizeof text, file))
			sscanf(text, "%ld", &seconds);
		fclose(file);
	}
	return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int result = real(clock, now);
	if (result == 0 && clock == CLOCK_REALTIME)
		now->tv_sec += offset();
	return result;
}

time_t time(time_t *place)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (place)
		*place = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &precise);
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}
