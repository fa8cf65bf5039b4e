// Of pages that contain a word equally, those that show how to do something come first, then the
// reference, then what is about the project itself.
var Scorer = {
  score: ([page, , , , score]) => {
    if (/^(changelog|contributing|architecture|fuzzing|reliability|benchmarks.*|latency|multi|scale|servers|algorithms)$/.test(page))
      return score - 3;
    return page.startsWith("reference/") ? score - 1 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
