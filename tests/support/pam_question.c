/* pam_question.c - a PAM module that asks a question of its own, as many modules of vendors do.
 *
 * Its argument is the question.  The answer becomes the password for the modules behind it.  Tests
 * of sudo compile it; PAM's own headers need not be there.
 */
struct pam_handle;
extern int pam_prompt(struct pam_handle *pam, int style, char **answer, const char *format, ...);
extern int pam_set_item(struct pam_handle *pam, int item, const void *value);

enum { ECHO_OFF = 1, AUTHTOK = 6, SUCCESS = 0, AUTH_ERR = 7 };

int pam_sm_authenticate(struct pam_handle *pam, int flags, int argc, const char **argv) {
  char *answer = 0;
  (void)flags;
  if (pam_prompt(pam, ECHO_OFF, &answer, "%s", argc ? argv[0] : "?") != SUCCESS || !answer)
    return AUTH_ERR;
  return pam_set_item(pam, AUTHTOK, answer);
}

int pam_sm_setcred(struct pam_handle *pam, int flags, int argc, const char **argv) {
  (void)pam, (void)flags, (void)argc, (void)argv;
  return SUCCESS;
}
