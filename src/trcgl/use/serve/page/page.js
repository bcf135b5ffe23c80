// the page's behavior
