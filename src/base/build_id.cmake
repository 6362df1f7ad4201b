# Writes the header with the commit this tree is at; the file changes only when its content does.
execute_process(COMMAND git -C "${SOURCE_DIR}" describe --always --dirty --exclude=*
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit "unknown")
endif()
set(content "#define RWKVX_VERSION \"${VERSION}\"\n#define RWKVX_COMMIT \"${commit}\"\n#define RWKVX_COMPILER \"${COMPILER}\"\n#define RWKVX_LIBRARIES \"${LIBRARIES}\"\n")
set(before "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" before)
endif()
if(NOT before STREQUAL content)
  file(WRITE "${OUTPUT}" "${content}")
endif()
