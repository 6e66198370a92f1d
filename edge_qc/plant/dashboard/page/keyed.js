// Keeps elements on the page in step with items.

/** One element for each item, in order; elements are kept and told what is new. keyOf: null for
 * the place in the list. */
export function keyed(parent, items, keyOf, create, update) {
  const kept = new Map([...parent.children].map((child, index) => [child.dataset.key ?? index, child]));
  items.forEach((item, index) => {
    const key = keyOf ? keyOf(item) : index;
    let element = kept.get(key);
    if (element === undefined) {
      element = create(item);
      if (keyOf) element.dataset.key = key;
    }
    kept.delete(key);
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
    update(element, item);
  });
  for (const old of kept.values()) old.remove();
}
