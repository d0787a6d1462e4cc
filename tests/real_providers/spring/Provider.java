// A provider made with Spring Authorization Server: one person, one client, all of it in memory.
// Arguments: its port, the port of its administration, the site's URL and the client's secret.

import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.RSAKey;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.proc.SecurityContext;
import com.sun.net.httpserver.HttpServer;
import jakarta.servlet.Filter;
import jakarta.servlet.http.HttpServletResponse;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.interfaces.RSAPublicKey;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.core.ClientAuthenticationMethod;
import org.springframework.security.oauth2.server.authorization.InMemoryOAuth2AuthorizationService;
import org.springframework.security.oauth2.server.authorization.OAuth2Authorization;
import org.springframework.security.oauth2.server.authorization.OAuth2AuthorizationService;
import org.springframework.security.oauth2.server.authorization.OAuth2TokenType;
import org.springframework.security.oauth2.server.authorization.client.InMemoryRegisteredClientRepository;
import org.springframework.security.oauth2.server.authorization.client.RegisteredClient;
import org.springframework.security.oauth2.server.authorization.settings.AuthorizationServerSettings;
import org.springframework.security.oauth2.server.authorization.settings.ClientSettings;
import org.springframework.security.oauth2.server.authorization.settings.TokenSettings;
import org.springframework.security.oauth2.server.authorization.token.JwtEncodingContext;
import org.springframework.security.oauth2.server.authorization.token.OAuth2TokenCustomizer;

@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
public class Provider {
  static final String SUBJECT = "ann";
  static String site;
  static String secret;
  static String issuer;
  static InMemoryRegisteredClientRepository clients;
  static volatile boolean disabled;
  static volatile boolean down;
  static volatile List<String> organizations;
  static volatile List<String> roles;
  static volatile JWKSet keys;
  static volatile OAuth2AuthorizationService logins;

  public static void main(String[] args) throws Exception {
    issuer = "http://127.0.0.1:" + args[0];
    site = args[2];
    secret = args[3];
    begin();
    SpringApplication application = new SpringApplication(Provider.class);
    application.setDefaultProperties(
        Map.of("server.port", args[0], "server.address", "127.0.0.1", "server.servlet.session.cookie.name", "provider"));
    application.run();
    HttpServer administration =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[1])), 0);
    administration.createContext("/", exchange -> {
      operate(exchange.getRequestURI().getPath().substring(1));
      exchange.sendResponseHeaders(204, -1);
      exchange.close();
    });
    administration.start();
  }

  static void operate(String operation) {
    switch (operation) {
      case "begin" -> begin();
      case "rotate_refresh_tokens" -> clients.save(client(true));
      case "take_rights" -> {
        organizations = List.of("acme");
        roles = List.of();
      }
      case "disable" -> disabled = true;
      case "end_logins" -> logins = new InMemoryOAuth2AuthorizationService();
      case "replace_key" -> keys = newKeys();
      case "down" -> down = true;
      case "up" -> down = false;
      default -> throw new IllegalArgumentException(operation);
    }
  }

  static void begin() {
    disabled = down = false;
    organizations = List.of("acme", "globex");
    roles = List.of("acme:developer");
    keys = newKeys();
    logins = new InMemoryOAuth2AuthorizationService();
    if (clients == null) {
      clients = new InMemoryRegisteredClientRepository(client(false));
    }
    clients.save(client(false));
  }

  static RegisteredClient client(boolean rotating) {
    return RegisteredClient.withId("site")
        .clientId("site")
        .clientSecret("{noop}" + secret)
        .clientAuthenticationMethod(ClientAuthenticationMethod.CLIENT_SECRET_BASIC)
        .authorizationGrantType(AuthorizationGrantType.AUTHORIZATION_CODE)
        .authorizationGrantType(AuthorizationGrantType.REFRESH_TOKEN)
        .redirectUri(site + "/partium/callback/default/")
        .postLogoutRedirectUri(site + "/partium/login/")
        .scopes(scopes -> scopes.addAll(List.of("openid", "email", "profile")))
        .clientSettings(ClientSettings.builder().requireProofKey(true).requireAuthorizationConsent(false).build())
        .tokenSettings(
            TokenSettings.builder().accessTokenTimeToLive(Duration.ofMinutes(10)).reuseRefreshTokens(!rotating).build())
        .build();
  }

  static JWKSet newKeys() {
    try {
      KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
      generator.initialize(2048);
      KeyPair pair = generator.generateKeyPair();
      RSAPublicKey key = (RSAPublicKey) pair.getPublic();
      return new JWKSet(
          new RSAKey.Builder(key).privateKey(pair.getPrivate()).keyID(UUID.randomUUID().toString()).build());
    } catch (java.security.GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  @Bean
  AuthorizationServerSettings settings() {
    return AuthorizationServerSettings.builder().issuer(issuer).build();
  }

  @Bean
  InMemoryRegisteredClientRepository clientRepository() {
    return clients;
  }

  @Bean
  JWKSource<SecurityContext> keySource() {
    return (selector, context) -> selector.select(keys);
  }

  @Bean
  UserDetailsService people() {
    return name -> User.withUsername(SUBJECT).password("{noop}demo").roles("USER").disabled(disabled).build();
  }

  // As docs/providers.md says: claims are added by a customizer, and a refresh asks it again.
  @Bean
  OAuth2TokenCustomizer<JwtEncodingContext> claims() {
    return context -> context.getClaims().claims(claims -> claims.putAll(Map.of(
        "email", "ann@example.com", "email_verified", true, "given_name", "Ann", "family_name", "Otis",
        "organizations", organizations, "roles", roles)));
  }

  // A gateway in front of it that says 503.
  @Bean
  FilterRegistrationBean<Filter> gateway() {
    Filter filter = (request, response, chain) -> {
      if (down) {
        ((HttpServletResponse) response).setStatus(503);
      } else {
        chain.doFilter(request, response);
      }
    };
    FilterRegistrationBean<Filter> bean = new FilterRegistrationBean<>(filter);
    bean.setOrder(Integer.MIN_VALUE);
    return bean;
  }

  @Bean
  OAuth2AuthorizationService loginsOfNow() {
    return new OAuth2AuthorizationService() {
      public void save(OAuth2Authorization login) {
        logins.save(login);
      }

      public void remove(OAuth2Authorization login) {
        logins.remove(login);
      }

      public OAuth2Authorization findById(String id) {
        return logins.findById(id);
      }

      public OAuth2Authorization findByToken(String token, OAuth2TokenType type) {
        return logins.findByToken(token, type);
      }
    };
  }
}
