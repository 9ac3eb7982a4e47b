/* `citadel rotate-root [status|start|next|abort]`: see the .c. */
#pragma once

int rotate_command(int argc, char **argv);
