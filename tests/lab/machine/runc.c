/*
 * Stands in front of runc where the host lacks CAP_SYS_RESOURCE. Without that capability the kernel refuses a
 * negative oom_score_adj, and no container can be given the capability itself: runc would fail for every control
 * plane pod and every privileged container. This edits just those two things in the bundle's config.json, or in what an
 * exec asks for, and hands over. In C, because it runs at every container start and every exec probe.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL "/usr/sbin/runc.real"

/* Remove length bytes at p from the text. */
static void cut(char *p, size_t length) { memmove(p, p + length, strlen(p + length) + 1); }

static void no_negative_oom_score(char *text)
{
	static const char key[] = "\"oomScoreAdj\":";
	for (char *p = text; (p = strstr(p, key)); ) {
		p += strlen(key);
		while (*p == ' ')
			p++;
		if (*p != '-')
			continue;
		cut(p, 1);
		*p = '0';
		while (p[1] >= '0' && p[1] <= '9')
			cut(p + 1, 1);
	}
}

static void no_sys_resource(char *text)
{
	static const char name[] = "\"CAP_SYS_RESOURCE\"";
	for (char *p; (p = strstr(text, name)); ) {
		char *end = p + strlen(name), *start = p;
		while (*end == ' ' || *end == '\n' || *end == '\t')
			end++;
		if (*end == ',') {
			end++;
		} else {		/* last of its list: the comma before it goes */
			while (start > text && start[-1] != ',' && start[-1] != '[')
				start--;
			if (start > text && start[-1] == ',')
				start--;
		}
		cut(start, (size_t)(end - start));
	}
}

static void edit(const char *path)
{
	char fresh[4096 + 8];
	snprintf(fresh, sizeof fresh, "%s.lab", path);
	int in = open(path, O_RDONLY | O_CLOEXEC);
	struct stat info;
	if (in < 0 || fstat(in, &info) < 0)
		return;			/* runc itself explains a bundle without a configuration best */
	char *text = calloc(1, (size_t)info.st_size + 1);
	ssize_t got = text ? read(in, text, (size_t)info.st_size) : -1;
	close(in);
	if (got != info.st_size)
		return;
	no_negative_oom_score(text);
	no_sys_resource(text);
	int out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, info.st_mode & 0777);
	size_t length = strlen(text);
	if (out >= 0 && write(out, text, length) == (ssize_t)length && close(out) == 0)
		rename(fresh, path);
	free(text);
}

int main(int argc, char **argv)
{
	const char *bundle = ".", *process = NULL;
	int starts = 0, enters = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "create") || !strcmp(argv[i], "run"))
			starts = 1;
		else if (!strcmp(argv[i], "exec"))
			enters = 1;
		else if ((!strcmp(argv[i], "--bundle") || !strcmp(argv[i], "-b")) && i + 1 < argc)
			bundle = argv[i + 1];
		else if (!strncmp(argv[i], "--bundle=", 9))
			bundle = argv[i] + 9;
		else if ((!strcmp(argv[i], "--process") || !strcmp(argv[i], "-p")) && i + 1 < argc)
			process = argv[i + 1];
		else if (!strncmp(argv[i], "--process=", 10))
			process = argv[i] + 10;
	}
	if (starts) {
		char path[4096];
		snprintf(path, sizeof path, "%s/config.json", bundle);
		edit(path);
	}
	if (enters && process)
		edit(process);	/* containerd asks for what the container was meant to have, not for what it got */
	argv[0] = "runc";
	execv(REAL, argv);
	perror(REAL);
	return 127;
}
