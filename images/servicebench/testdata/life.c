// life is the service that every manager of the measurement keeps running: it tells the rig its name through a unix socket,
// keeps the connection as long as it lives, and sleeps. The name is its argument, or else the name of its working directory,
// so that managers whose services are directories start it without a shell in between.
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un rig = { AF_UNIX, "/bench/life.sock" };
	char text[256] = "";
	int to = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc > 1) {
		strncpy(text, argv[1], sizeof text - 2);
	} else {
		if (!getcwd(text, sizeof text - 1) || !strrchr(text, '/'))
			return 1;
		memmove(text, strrchr(text, '/') + 1, strlen(strrchr(text, '/')));
	}
	strcat(text, "\n");
	if (to < 0 || connect(to, (struct sockaddr *)&rig, sizeof rig) || write(to, text, strlen(text)) < 0)
		return 1;
	for (;;)
		pause();
}
