# Makes the commands task anew in MADE and compares it, byte by byte, with the files in KEPT.
file(MAKE_DIRECTORY ${MADE})
execute_process(COMMAND ${PROGRAM} ${MADE} COMMAND_ERROR_IS_FATAL ANY)
foreach(NAME train validation test)
  execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${MADE}/${NAME}.jsonl ${KEPT}/${NAME}.jsonl
                  COMMAND_ERROR_IS_FATAL ANY)
endforeach()
